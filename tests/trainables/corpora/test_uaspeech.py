"""UA-Speech as researchers have it: what is kept, what is rejected and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from dysarthric_trees import (
    UA_CODES,
    UA_WORDS,
    shuffled_copy,
    ua_labels,
    ua_speaker,
    ua_word,
    write_header_only,
    write_speech,
)

from trainables.corpora import audio, references, splits, uaspeech
from trainables.corpora.recordings import Found, Recording


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy in the new layout, in a folder with a space and a letter beyond ASCII."""
    root = tmp_path / "UA Speech é"
    ua_speaker(root, "F03", "audio/original", "M2 M3 M5 M8")
    ua_speaker(root, "M04", "audio/original", "M3 M6")
    ua_speaker(root, "CF02", "audio/original", "M5 M6")
    return root


def by_id(found: Found) -> dict[str, Recording]:
    assert len({one.utt_id for one in found.recordings}) == len(found.recordings)
    return {one.utt_id: one for one in found.recordings}


def reasons(found: Found) -> dict[str, str]:
    return {reject.utt_id: reject.reason for reject in found.rejects}


def note(found: Found, start: str) -> str:
    (text,) = [text for text in found.notes if text.startswith(start)]
    return text


def test_every_recording_says_who_spoke_which_word_where(root: Path) -> None:
    found = uaspeech.find(root, {})
    assert len(found.recordings) == 3 * 3 * len(UA_CODES)
    assert not found.rejects
    one = by_id(found)["UA-F03_B1_UW1_M5"]
    assert one.audio == (str(root / "audio/original/F03/F03_B1_UW1_M5.wav"),)
    assert (one.transcript, one.speaker, one.corpus, one.group) == (
        "NATURALIZATION",
        "UA-F03",
        "uaspeech",
        "dysarthric",
    )
    assert dict(one.more) == {
        "speaker_type": "dysarthric", "severity": "very low", "intelligibility": "6", "gender": "F",
        "prompt_id": "B1_UW1", "word_class": "uncommon", "block": "B1", "mic": "M5", "audio_version": "original",
    }  # fmt: skip
    control = by_id(found)["UA-CF02_B2_CW1_M5"]
    assert (control.group, control.more["severity"], control.more["gender"]) == ("control", "", "F")
    assert control.more["prompt_id"] == "CW1"


def test_every_kept_file_is_sound_that_preparation_can_read(root: Path) -> None:
    for recording in uaspeech.find(root, {"mic": "mean"}).recordings:
        for reference in recording.audio:
            assert audio.decode(references.read(reference)).size


def test_word_classes_are_those_of_the_codes(root: Path) -> None:
    classes = {one.more["prompt_id"]: one.more["word_class"] for one in uaspeech.find(root, {}).recordings}
    assert set(classes) == set(UA_WORDS)
    assert {classes[prompt] for prompt in ("B1_UW1", "B2_UW1", "B3_UW1")} == {"uncommon"}
    assert [classes[code] for code in UA_CODES[:-1]] == ["digit", "letter", "command", "command", "common", "common"]


def test_words_with_hyphens_stay_as_the_corpus_writes_them(root: Path) -> None:
    words = {one.more["prompt_id"]: one.transcript for one in uaspeech.find(root, {}).recordings}
    assert words == UA_WORDS


def test_where_the_microphone_is_missing_the_first_there_is_is_taken_and_said(root: Path) -> None:
    (root / "audio/original/F03/F03_B2_C1_M5.wav").unlink()
    found = uaspeech.find(root, {})
    assert {one.more["mic"] for one in found.recordings if one.speaker == "UA-M04"} == {"M3"}
    assert "UA-F03_B2_C1_M2" in by_id(found)
    assert note(found, "UA-M04") == "UA-M04: 21 utterances have no M5; taken instead: M3 (21)"
    assert note(found, "UA-F03") == "UA-F03: 1 utterances have no M5; taken instead: M2 (1)"


def test_all_microphones_of_an_utterance_share_prompt_and_split(root: Path) -> None:
    found = uaspeech.find(root, {"mic": "all"})
    assert Counter(one.more["mic"] for one in found.recordings) == {"M2": 21, "M3": 42, "M5": 42, "M6": 42, "M8": 21}
    kinds: dict[str, set[tuple[str, str, str]]] = {}
    for one in found.recordings:
        kinds.setdefault(one.utt_id.rpartition("_")[0], set()).add((one.split, one.more["prompt_id"], one.transcript))
    assert all(len(kind) == 1 for kind in kinds.values())


def test_the_mean_takes_every_channel_that_has_samples(root: Path) -> None:
    empty = root / "audio/original/F03/F03_B3_C13_M2.wav"
    empty.write_bytes(b"")
    found = uaspeech.find(root, {"mic": "mean"})
    channels = {one.utt_id: [Path(path).stem[-2:] for path in one.audio] for one in found.recordings}
    assert channels["UA-F03_B3_C1"] == ["M2", "M3", "M5", "M8"]
    assert channels["UA-F03_B3_C13"] == ["M3", "M5", "M8"]
    assert {one.more["mic"] for one in found.recordings} == {"mean"}
    assert "without M2" in note(found, "UA-F03_B3_C13")
    assert not found.rejects


def test_an_utterance_without_samples_in_any_channel_is_rejected_from_the_mean(root: Path) -> None:
    for mic in ("M3", "M6"):
        (root / f"audio/original/M04/M04_B1_D3_{mic}.wav").write_bytes(b"")
    assert reasons(uaspeech.find(root, {"mic": "mean"})) == {"UA-M04_B1_D3": "empty"}


def test_many_channels_without_samples_do_not_flood_the_notes(root: Path) -> None:
    for path in (root / "audio/original/F03").glob("*_M8.wav"):
        path.write_bytes(b"")
    notes = [text for text in uaspeech.find(root, {"mic": "mean"}).notes if text.startswith("UA-F03")]
    assert len(notes) == 6
    assert notes[-1] == "UA-F03: the mean of 16 more utterances lacks channels"


def test_empty_files_are_rejected_and_those_of_the_release_are_told_apart(root: Path) -> None:
    folder = root / "audio/original/F03"
    write_header_only(folder / "F03_B3_C13_M2.wav")
    (folder / "F03_B1_D3_M5.wav").write_bytes(b"")
    found = uaspeech.find(root, {"mic": "all"})
    assert reasons(found) == {"UA-F03_B3_C13_M2": "empty", "UA-F03_B1_D3_M5": "empty"}
    assert note(found, "empty in the release too") == "empty in the release too: F03_B3_C13_M2"
    assert note(found, "empty here but not").endswith(": F03_B1_D3_M5")
    assert {reject.split for reject in found.rejects} <= {"train", "validation"}
    assert all(reject.speaker == "UA-F03" and reject.group == "dysarthric" for reject in found.rejects)


def test_fifteen_files_of_the_release_are_known_to_be_empty() -> None:
    assert len(uaspeech.KNOWN_EMPTY) == 15
    assert all(uaspeech.parse(name) is not None for name in (*uaspeech.KNOWN_EMPTY, uaspeech.KNOWN_UNREADABLE))


def test_the_unreadable_file_of_noisereduce_is_named(root: Path) -> None:
    damaged = write_speech(root / "audio/noisereduce/M16/M16_B3_UW100_M8.wav")
    good = write_speech(damaged.with_name("M16_B3_UW100_M5.wav"))
    damaged.write_bytes(b"\0" * 4000)
    ua_labels(root, "M16", '#!MLF!#\n"*/M16_B3_UW100_M8.lab"\nUNUSUAL\n.\n')
    found = uaspeech.find(root, {"audio": "noisereduce", "mic": "M8"})
    assert note(found, uaspeech.KNOWN_UNREADABLE)
    with pytest.raises(audio.UnusableAudio, match="unreadable"):
        audio.decode(references.read(by_id(found)["UA-M16_B3_UW100_M8"].audio[0]))
    mean = uaspeech.find(root, {"audio": "noisereduce", "mic": "mean"})
    assert by_id(mean)["UA-M16_B3_UW100"].audio == (str(good), str(damaged))
    assert note(mean, uaspeech.KNOWN_UNREADABLE)


def test_block_two_is_tested_and_a_tenth_of_the_other_words_validates(tmp_path: Path) -> None:
    codes = [f"CW{number}" for number in range(1, 101)] + [f"UW{number}" for number in range(1, 101)]
    for speaker in ("F02", "M09", "CM05"):
        (tmp_path / "audio" / "original" / speaker).mkdir(parents=True)
        labels = ["#!MLF!#"]
        for block in ("B1", "B2", "B3"):
            for place, code in enumerate(codes):
                name = f"{speaker}_{block}_{code}_M5"
                (tmp_path / "audio/original" / speaker / f"{name}.wav").write_bytes(b"\0" * 100)
                word = f"{block} word {place}" if code.startswith("UW") else f"common word {place}"
                labels += [f'"*/{name}.lab"', word, "."]
        ua_labels(tmp_path, speaker, "\n".join(labels))
    found = uaspeech.find(tmp_path, {})
    assert {one.split for one in found.recordings if one.more["block"] == "B2"} == {"test"}
    prompts: dict[str, set[str]] = {"train": set(), "validation": set()}
    for one in found.recordings:
        if one.more["block"] != "B2":
            prompts[one.split].add(one.more["prompt_id"])
    assert not prompts["train"] & prompts["validation"]
    # Binomial with 300 prompts of which a tenth validates: 30, give or take four standard deviations of 5.2.
    assert 9 <= len(prompts["validation"]) <= 51


def test_the_split_is_the_one_that_carries_its_name(root: Path) -> None:
    found = uaspeech.find(root, {"mic": "all"})
    again = splits.by_block(store_columns(found))
    assert [one.split for one in found.recordings] == again


def store_columns(found: Found) -> dict[str, list[str]]:
    """The columns that a store of these recordings would have."""
    columns = {name: [getattr(one, name) for one in found.recordings] for name in ("utt_id", "speaker", "corpus")}
    columns["transcript"] = [one.transcript for one in found.recordings]
    return {**columns, **{name: [one.more[name] for one in found.recordings] for name in ("prompt_id", "block", "mic")}}


def test_names_that_say_nothing_are_rejected_and_hidden_files_are_left_out(root: Path) -> None:
    folder = root / "audio/original/F03"
    for name in ("F03_B1_C1_M1", "F03_B4_C1_M5", "M04_B1_C1_M5", "F03_B1_ZZ_M5", "copy of F03_B1_C1_M5"):
        write_speech(folder / f"{name}.wav")
    (folder / "._F03_B1_C1_M5.wav").write_bytes(b"\0" * 100)
    (folder / "notes.txt").write_text("not sound")
    found = uaspeech.find(root, {})
    assert set(reasons(found).values()) == {"unknown_name"}
    assert len(found.rejects) == 5
    assert len(found.recordings) == 63


def test_what_the_label_file_lists_and_the_copy_lacks_is_rejected(root: Path) -> None:
    for mic in ("M3", "M6"):
        (root / f"audio/original/M04/M04_B2_LX_{mic}.wav").unlink()
    (root / "audio/original/CF02/CF02_B1_C1_M6.wav").unlink()
    assert reasons(uaspeech.find(root, {})) == {"UA-M04_B2_LX": "missing_file"}
    assert reasons(uaspeech.find(root, {"mic": "all"})) == {
        "UA-M04_B2_LX": "missing_file",
        "UA-CF02_B1_C1_M6": "missing_file",
    }


def test_links_that_lead_nowhere_or_in_circles_are_rejected(root: Path) -> None:
    folder = root / "audio/original/CF02"
    for name, target in (("CF02_B1_D3_M5", "gone.wav"), ("CF02_B1_LX_M5", "CF02_B1_LX_M5.wav")):
        (folder / f"{name}.wav").unlink()
        (folder / f"{name}.wav").symlink_to(folder / target)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "CF02_B1_C1_M5.wav").unlink()
    (folder / "CF02_B1_C1_M5.wav").mkdir()
    found = uaspeech.find(root, {})
    assert reasons(found) == dict.fromkeys(("UA-CF02_B1_C1_M5", "UA-CF02_B1_D3_M5", "UA-CF02_B1_LX_M5"), "missing_file")


def test_incomplete_copies_are_noted(root: Path) -> None:
    ua_labels(root, "F05", "#!MLF!#\n")
    ua_labels(root, "M09", f'#!MLF!#\n"*/M09_B1_D3_M5.lab"\n{ua_word("B1", "D3")}\n.\n')
    found = uaspeech.find(root, {})
    assert note(found, "speakers with a label file").endswith(": M09")
    assert "UA-CF02 B1: 7; UA-CF02 B2: 7" in note(found, "usable utterances in blocks that are not whole")


def test_a_speaker_outside_the_common_release_gets_the_words_of_the_others(root: Path) -> None:
    write_speech(root / "audio/original/M06/M06_B2_UW1_M5.wav")
    write_speech(root / "audio/original/M02/M02_B2_UW2_M5.wav")
    found = uaspeech.find(root, {})
    one = by_id(found)["UA-M06_B2_UW1_M5"]
    assert (one.transcript, one.more["severity"]) == ("ABLE-BODIED", "low")
    assert reasons(found) == {"UA-M02_B2_UW2_M5": "no_transcript"}
    assert "M02" in note(found, "no intelligibility is known")


def test_the_order_does_not_depend_on_the_file_system(root: Path, tmp_path: Path) -> None:
    found = (uaspeech.find(place, {}) for place in (root, shuffled_copy(root, tmp_path / "shuffled")))
    first, second = ([(one.utt_id, one.split) for one in each.recordings] for each in found)
    assert first == second
