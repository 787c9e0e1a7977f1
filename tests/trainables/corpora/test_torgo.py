"""TORGO as researchers have it: what is kept, what is rejected and why."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from dysarthric_trees import shuffled_copy, torgo_session, write_header_only, write_speech

from trainables.corpora import audio, references, splits, torgo
from trainables.corpora.recordings import Found, Recording
from trainables.errors import DataError

PROMPTS = {"0001": "stick", "0002": "Except in the winter when the ooze prevents,\n", "0003": 'He didn\'t "know".'}
NESTED = {"F01": "F/F01", "M05": "M/M05", "FC02": "FC/FC02", "MC04": "MC/MC04"}


def tree(root: Path, layout: dict[str, str]) -> Path:
    for place, folder in enumerate(layout.values()):
        torgo_session(root / folder / "Session1", PROMPTS, start=100 * place)
        torgo_session(root / folder / "Session2_3", {"0001": "trouble"}, start=100 * place + 50)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy in the nested layout, in a folder with a space and a letter beyond ASCII."""
    return tree(tmp_path / "TORGO ü", NESTED)


def by_id(found: Found) -> dict[str, Recording]:
    assert len({one.utt_id for one in found.recordings}) == len(found.recordings)
    return {one.utt_id: one for one in found.recordings}


def reasons(found: Found) -> dict[str, str]:
    return {reject.utt_id: reject.reason for reject in found.rejects}


def notes(found: Found, start: str) -> list[str]:
    return [text for text in found.notes if text.startswith(start)]


def test_every_recording_says_who_spoke_which_words_where(root: Path) -> None:
    found = torgo.find(root, {})
    assert len(found.recordings) == 4 * 4
    assert not found.rejects
    one = by_id(found)["TORGO-M05_Session1_0002_head"]
    assert one.audio == (str(root / "M/M05/Session1/wav_headMic/0002.wav"),)
    assert one.transcript == "Except in the winter when the ooze prevents,"
    assert (one.speaker, one.corpus, one.group) == ("TORGO-M05", "torgo", "dysarthric")
    assert dict(one.more) == {
        "speaker_type": "dysarthric", "severity": "moderate-severe", "frenchay": "5.33", "gender": "M",
        "prompt_id": "EXCEPT IN THE WINTER WHEN THE OOZE PREVENTS", "session": "Session1", "mic": "head",
    }  # fmt: skip
    control = by_id(found)["TORGO-FC02_Session2_3_0001_head"]
    assert (control.group, control.more["severity"], control.more["frenchay"]) == ("control", "", "")


def test_every_kept_file_is_sound_that_preparation_can_read(root: Path) -> None:
    for recording in torgo.find(root, {"mic": "all"}).recordings:
        assert audio.decode(references.read(recording.audio[0])).size


@pytest.mark.parametrize("prefix", ["", "F_dys/", "TORGO/"])
def test_flattened_and_renamed_layouts_give_the_same_recordings(root: Path, tmp_path: Path, prefix: str) -> None:
    other = tree(tmp_path / "other", {name: f"{prefix}{name}" for name in NESTED})
    if prefix != "TORGO/":
        shutil.copytree(root / "M/M05", other / "elsewhere" / "M05", dirs_exist_ok=True)
        shutil.rmtree(other / f"{prefix}M05")
    nested, same = by_id(torgo.find(root, {})), by_id(torgo.find(other, {}))
    assert list(nested) == list(same)
    assert [(one.transcript, one.split, one.more) for one in nested.values()] == [
        (one.transcript, one.split, one.more) for one in same.values()
    ]


def test_apostrophes_and_punctuation_stay(root: Path) -> None:
    assert by_id(torgo.find(root, {}))["TORGO-F01_Session1_0003_head"].transcript == 'He didn\'t "know".'


def test_prompts_that_are_no_words_are_rejected_with_speaker_and_detail(root: Path) -> None:
    planted = {
        "0004": "input/images/a.jpg", "0005": "xxx", "0006": "[relax your mouth]", "0007": "ahpeee", "0008": "",
        "0009": b"\x81\x8d", "0010": "He didn\u2019t".encode("cp1252"),
    }  # fmt: skip
    torgo_session(root / "F/F01/Session1", planted, start=700)
    found = torgo.find(root, {})
    assert [(reject.utt_id[-9:-5], reject.reason) for reject in found.rejects] == [
        ("0004", "image_prompt"), ("0005", "marked_xxx"), ("0006", "instruction"), ("0007", "non_speech"),
        ("0008", "empty_transcript"), ("0009", "unreadable_transcript"),
    ]  # fmt: skip
    assert {(reject.speaker, reject.group) for reject in found.rejects} == {("TORGO-F01", "dysarthric")}
    assert "prompts/0004.txt says 'input/images/a.jpg'" in found.rejects[0].detail
    assert by_id(found)["TORGO-F01_Session1_0010_head"].transcript == "He didn\u2019t"


def test_sound_without_prompt_and_prompt_without_sound_are_rejected(root: Path) -> None:
    session = root / "MC/MC04/Session1"
    write_speech(session / "wav_headMic" / "0099.wav", 900)
    (session / "prompts" / "0098.txt").write_text("alone")
    (session / "prompts" / "0097.txt").write_text("xxx")
    found = torgo.find(root, {})
    assert reasons(found) == {
        "TORGO-MC04_Session1_0097": "marked_xxx",
        "TORGO-MC04_Session1_0098": "missing_file",
        "TORGO-MC04_Session1_0099_head": "no_transcript",
    }
    assert "0098.wav at either microphone" in found.rejects[1].detail


def test_the_head_microphone_is_the_default_and_the_other_can_be_chosen(root: Path) -> None:
    assert {one.more["mic"] for one in torgo.find(root, {}).recordings} == {"head"}
    assert {Path(one.audio[0]).parent.name for one in torgo.find(root, {"mic": "array"}).recordings} == {"wav_arrayMic"}


def test_both_microphones_of_an_utterance_share_prompt_and_split(root: Path) -> None:
    found = torgo.find(root, {"mic": "all"})
    assert Counter(one.more["mic"] for one in found.recordings) == {"head": 16, "array": 16}
    kinds: dict[str, set[tuple[str, str]]] = {}
    for one in found.recordings:
        kinds.setdefault(one.utt_id.rpartition("_")[0], set()).add((one.split, one.more["prompt_id"]))
    assert all(len(kind) == 1 for kind in kinds.values())


def test_a_session_with_one_microphone_is_taken_from_it_and_said(root: Path) -> None:
    shutil.rmtree(root / "F/F01/Session1/wav_headMic")
    shutil.rmtree(root / "FC/FC02/Session1/wav_arrayMic")
    (root / "M/M05/Session1/wav_headMic/0002.wav").unlink()
    found = torgo.find(root, {})
    assert len(found.recordings) == 16
    assert "TORGO-F01_Session1_0001_array" in by_id(found)
    assert "TORGO-M05_Session1_0002_array" in by_id(found)
    assert notes(found, "TORGO-F01") == ["TORGO-F01/Session1 has the array microphone only, which is taken"]
    assert notes(found, "TORGO-FC02") == ["TORGO-FC02/Session1 has the head microphone only"]
    assert notes(found, "TORGO-M05") == [
        "TORGO-M05/Session1: 1 utterances are not at the head microphone; the other one is taken"
    ]


def test_sessions_without_prompts_or_without_sound_are_noted(root: Path) -> None:
    shutil.rmtree(root / "F/F01/Session1/prompts")
    for mic in ("head", "array"):
        shutil.rmtree(root / f"M/M05/Session2_3/wav_{mic}Mic")
    found = torgo.find(root, {})
    assert Counter(reasons(found).values()) == {"no_transcript": 3, "missing_file": 1}
    assert notes(found, "TORGO-F01") == ["TORGO-F01/Session1 has no folder prompts; none of its recordings can be used"]
    assert notes(found, "TORGO-M05") == ["TORGO-M05/Session2_3 has no sound files"]


def test_empty_files_and_broken_links_are_rejected(root: Path) -> None:
    folder = root / "F/F01/Session1/wav_headMic"
    write_header_only(folder / "0001.wav")
    (folder / "0002.wav").write_bytes(b"")
    (folder / "0003.wav").unlink()
    (folder / "0003.wav").symlink_to("gone.wav")
    assert list(reasons(torgo.find(root, {})).values()) == ["empty", "empty", "missing_file"]


def test_what_only_decoding_can_tell_is_left_to_preparation(root: Path) -> None:
    folder = root / "F/F01/Session1/wav_headMic"
    write_speech(folder / "0001.wav", number=60, samples=132)
    damaged = folder / "0002.wav"
    damaged.write_bytes(b"\0" * 40 + damaged.read_bytes()[40:])
    found = by_id(torgo.find(root, {}))
    for number, reason in (("0001", "too_short"), ("0002", "unreadable")):
        with pytest.raises(audio.UnusableAudio, match=reason):
            audio.decode(references.read(found[f"TORGO-F01_Session1_{number}_head"].audio[0]))


def test_hidden_files_and_other_folders_are_left_out(root: Path) -> None:
    session = root / "F/F01/Session1"
    (session / "wav_headMic" / "._0001.wav").write_bytes(b"\0" * 100)
    (session / "prompts" / "._0050.txt").write_text("hidden")
    write_speech(session / "phn_headMic" / "0050.wav")
    torgo_session(root / "F/F01/Notes", {"0001": "no session"})
    torgo_session(root / "F/readers/Session1", {"0001": "no speaker"})
    assert len(torgo.find(root, {}).recordings) == 16


def test_no_text_is_in_two_splits_whoever_reads_it(tmp_path: Path) -> None:
    texts = {f"{number:04d}": f"word number {number}" for number in range(300)}
    for folder in ("F/F01", "MC/MC01"):
        for number, text in texts.items():
            for kind, suffix, content in (("prompts", "txt", text.encode()), ("wav_headMic", "wav", b"\0" * 100)):
                path = tmp_path / folder / "Session1" / kind / f"{number}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.upper() if "MC" in folder and kind == "prompts" else content)
    found = torgo.find(tmp_path, {})
    split_of: dict[str, set[str]] = {}
    for one in found.recordings:
        split_of.setdefault(one.more["prompt_id"], set()).add(one.split)
    assert all(len(split) == 1 for split in split_of.values())
    counts = Counter(next(iter(split)) for split in split_of.values())
    # Binomial with 300 texts, a tenth each: 30, give or take four standard deviations of 5.2.
    assert 9 <= counts["validation"] <= 51
    assert 9 <= counts["test"] <= 51


def test_the_split_is_the_one_that_carries_its_name(root: Path) -> None:
    found = torgo.find(root, {})
    columns = {name: [getattr(one, name) for one in found.recordings] for name in ("utt_id", "corpus", "transcript")}
    columns["prompt_id"] = [one.more["prompt_id"] for one in found.recordings]
    assert [one.split for one in found.recordings] == splits.by_prompt(columns)


def test_known_defects_and_absent_speakers_are_noted(root: Path) -> None:
    torgo_session(root / "F/F03/Session2", PROMPTS)
    torgo_session(root / "F/F09/Session1", PROMPTS)
    found = torgo.find(root, {})
    assert "known to be missing or not to match" in notes(found, "TORGO-F03/Session2")[0]
    assert notes(found, "speakers of the release that are not here")[0].endswith(
        ": F04, M01, M02, M03, M04, FC01, FC03, MC01, MC02, MC03"
    )
    assert notes(found, "speakers that the release does not have")[0].endswith(": F09")


def test_the_order_does_not_depend_on_the_file_system(root: Path, tmp_path: Path) -> None:
    found = (torgo.find(place, {}) for place in (root, shuffled_copy(root, tmp_path / "shuffled")))
    first, second = ([(one.utt_id, one.split) for one in each.recordings] for each in found)
    assert first == second


def test_links_in_circles_do_no_harm_and_a_speaker_who_is_there_twice_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "flat", {name: name for name in NESTED})
    (root / "again").symlink_to(root, target_is_directory=True)
    (root / "F01" / "Session9").symlink_to("Session9")
    assert len(torgo.find(root, {}).recordings) == 16
    shutil.copytree(root / "F01" / "Session1", root / "copy" / "F01" / "Session1")
    with pytest.raises(DataError, match="speaker F01 is there twice"):
        torgo.find(root, {})


def test_a_folder_that_is_no_copy_of_the_corpus_is_refused_with_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "ua" / "audio" / "F02").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for folder, message in (
        ("ua", r"expected F/F01/Session1/ and so on.*ua has: audio/"),
        ("empty", "is empty"),
        ("file", "is a file"),
        ("none", "does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            torgo.find(tmp_path / folder, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mic": "M5"}, "option mic = 'M5'; allowed: head, array, all"),
        ({"suitcase": "take"}, "unknown option 'suitcase'; allowed: mic"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(root: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        torgo.find(root, options)
