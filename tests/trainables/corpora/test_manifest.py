"""A manifest that cannot be used is one clear message; a row that cannot be used is left to preparation."""

from __future__ import annotations

from pathlib import Path

import pytest
from permissions import without_permission

from trainables.corpora import manifest
from trainables.errors import DataError

HEADER = "utt_id,audio,transcript,split\n"


def test_a_name_with_a_tilde_that_is_nobody_is_a_file_beside_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"{HEADER}a,~no such user.wav,go,train\n")
    assert manifest.find(path, {}).recordings[0].audio == (str(tmp_path / "~no such user.wav"),)


def test_a_manifest_without_permission_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "m.csv"
    path.write_text(f"{HEADER}a,a.wav,go,train\n")
    for place in (path, path.parent):
        with (
            without_permission(place),
            pytest.raises(DataError, match=r"m\.csv cannot be read: .*check its permissions"),
        ):
            manifest.read(path)
