"""The layouts of UA-Speech, the versions of its audio, and folders that are no copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dysarthric_trees import ua_speaker

from trainables.corpora import references, uaspeech
from trainables.corpora.recordings import Recording
from trainables.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy in the new layout."""
    root = tmp_path / "new"
    ua_speaker(root, "F03", "audio/original", "M2 M3 M5 M8")
    ua_speaker(root, "M04", "audio/original", "M3 M6")
    ua_speaker(root, "CF02", "audio/original", "M5 M6")
    return root


def by_id(root: Path) -> dict[str, Recording]:
    return {one.utt_id: one for one in uaspeech.find(root, {}).recordings}


def test_the_old_layout_gives_the_same_recordings(root: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    for speaker, folder, mics in (("F03", "", "M2 M3 M5 M8"), ("M04", "", "M3 M6"), ("CF02", "control", "M5 M6")):
        ua_speaker(old, speaker, f"audio/{folder}", mics)
    new, same = by_id(root), by_id(old)
    assert list(new) == list(same)
    for name, one in same.items():
        assert (one.transcript, one.split, one.more) == (new[name].transcript, new[name].split, new[name].more)
        assert references.read(one.audio[0]) == references.read(new[name].audio[0])
    assert Path(same["UA-CF02_B1_D3_M5"].audio[0]).parent.parent.name == "control"


def test_the_version_of_the_audio_is_chosen(root: Path) -> None:
    ua_speaker(root, "F03", "audio/noisereduce", "M5")
    found = uaspeech.find(root, {"audio": "noisereduce"})
    assert {Path(one.audio[0]).parts[-3] for one in found.recordings} == {"noisereduce"}
    assert {one.more["audio_version"] for one in found.recordings} == {"noisereduce"}


def test_a_folder_that_is_no_copy_of_the_corpus_is_refused_with_what_it_has(root: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong" / "wavs").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "half" / "audio" / "original" / "._F02").mkdir(parents=True)
    for folder, message in (
        ("wrong", r"expected audio/original/<SPEAKER>/ .* has: wavs/"),
        ("none", "does not exist"),
        ("file", "is a file"),
        ("half", r"expected folders of speakers such as F02.*original is empty\. Unpack"),
        (f"{root.name}/audio", "has: original/; give the folder that holds audio/"),
    ):
        with pytest.raises(DataError, match=message):
            uaspeech.find(tmp_path / folder, {})
    with pytest.raises(
        DataError, match=r"expected audio/normalized/.*audio has: original/; give the option audio = original"
    ):
        uaspeech.find(root, {"audio": "normalized"})


def test_the_old_layout_has_no_versions(tmp_path: Path) -> None:
    ua_speaker(tmp_path, "F03", "audio")
    assert uaspeech.find(tmp_path, {"audio": "original"}).recordings
    with pytest.raises(
        DataError, match=r"has the old layout, .* with one version of the recordings: leave the option out"
    ):
        uaspeech.find(tmp_path, {"audio": "noisereduce"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mic": "M1"}, "option mic = 'M1'; allowed: M5, M2, M3, M4, M6, M7, M8, all, mean"),
        ({"audio": "clean"}, "option audio = 'clean'; allowed: original, noisereduce, normalized"),
        ({"microphone": "M5"}, "unknown option 'microphone'; allowed: audio, mic"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(root: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        uaspeech.find(root, options)
