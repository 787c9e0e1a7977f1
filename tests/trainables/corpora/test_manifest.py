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


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("utt_id,path,file,transcript,split", "the columns path and file both stand for audio; call one of them audio"),
        ("utt_id,audio,audio ,transcript,split", "has the column audio more than once"),
    ],
)
def test_two_columns_that_mean_the_same_are_refused_because_one_would_win_in_silence(
    tmp_path: Path, header: str, message: str
) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"{header}\na,a.wav,b.wav,go,train\n")
    with pytest.raises(DataError, match=message):
        manifest.read(path)


@pytest.mark.parametrize("name", ["path", "file"])
def test_beside_a_column_audio_other_names_of_it_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"id,audio,{name},text,split\na,a.wav,b.wav,go,dev\n")
    (row,) = manifest.read(path).rows
    assert (row["utt_id"], row["audio"], row[name], row["transcript"], row["split"]) == (
        "a", "a.wav", "b.wav", "go", "validation",
    )  # fmt: skip
