"""A folder or file that nobody may read is one clear message, whatever corpus it is of."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import small_rows, write_manifest
from dysarthric_trees import torgo_session, ua_speaker
from permissions import without_permission
from small_corpora import sap_contributor, sap_entry

from trainables.corpora import commands, importing, sap, torgo, uaspeech
from trainables.corpora.prepare import prepare
from trainables.corpora.store import Store
from trainables.errors import DataError


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that everybody may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def uaspeech_copy(root: Path) -> None:
    ua_speaker(root, "F02", "audio", codes=("D3",))
    ua_speaker(root, "CF02", "audio/control", codes=("D3",))


def torgo_copy(root: Path) -> None:
    torgo_session(root / "F" / "F01" / "Session1", {"0001": "stick"})


def sap_copy(root: Path) -> None:
    sap_contributor(root / "TRAIN" / "a", [sap_entry("a_1.wav")], ("a_1.wav",))


@pytest.mark.parametrize(
    ("find", "make", "places"),
    [
        (
            uaspeech.find, uaspeech_copy,
            (".", "audio", "audio/F02", "audio/control", "audio/control/CF02", "mlf", "mlf/F02", "mlf/F02/F02_word.mlf"),
        ),
        (torgo.find, torgo_copy, (".", "F", "F/F01", "F/F01/Session1", "F/F01/Session1/prompts", "F/F01/Session1/wav_headMic")),
        (sap.find, sap_copy, (".", "TRAIN", "TRAIN/a", "TRAIN/a/a.json")),
    ],
)  # fmt: skip
def test_a_corpus_in_which_something_may_not_be_read_is_refused(
    root: Path, find: Callable[..., Any], make: Callable[[Path], None], places: tuple[str, ...]
) -> None:
    make(root)
    assert find(root, {}).recordings
    for place in places:
        with without_permission(root / place), pytest.raises(DataError, match="ermission"):
            find(root, {})


def test_a_single_recording_that_may_not_be_read_is_rejected(root: Path) -> None:
    torgo_copy(root)
    torgo_session(root / "F" / "F01" / "Session1", {"0002": "stone"}, start=500)
    with without_permission(root / "F" / "F01" / "Session1" / "wav_headMic" / "0001.wav"):
        path = root / "F" / "F01" / "Session1" / "wav_headMic" / "0001.wav"
        assert importing.problem(path) is None  # its folder may be read: what is in it is found when it is decoded
    with without_permission(path.parent):
        assert importing.problem(path) == ("unreadable", f"{path}: Permission denied")


def test_data_and_stores_that_may_not_be_read_are_refused(root: Path) -> None:
    (root / "data").mkdir()
    manifest = write_manifest(root / "data" / "manifest.csv", small_rows(root / "data"))
    commands.prepare("manifest", manifest, root / "data" / "store")
    for given in (root / "data" / "store", manifest, root / "data"):
        with without_permission(root / "data"), pytest.raises(DataError, match="ermission"):
            prepare(str(given), root / "stores", [("tiny", None)])
    with without_permission(root / "data"), pytest.raises(DataError, match="ermission"):
        Store.open(root / "data" / "store")
    with without_permission(root / "data"), pytest.raises(DataError, match="ermission"):
        commands.prepare("manifest", manifest, root / "data" / "other")


def test_a_home_folder_of_nobody_is_a_clear_error(root: Path) -> None:
    for given in ("~no such user/manifest.csv", "~no such user/a.csv,~no such user/b.csv"):
        with pytest.raises(DataError, match="no home folder is known of that name"):
            prepare(given, root, [("tiny", None)])
    with pytest.raises(DataError, match="no home folder"):
        commands.prepare("torgo", Path("~no such user/torgo"), root / "store")
