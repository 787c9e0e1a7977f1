"""The Speech Accessibility Project: mark-up becomes words, and a contributor's folder and list are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_corpora import sap_contributor, sap_entry

from trainables.corpora import sap
from trainables.corpora.recordings import Found
from trainables.errors import DataError
from trainables.vocabulary import normalise

WHO = "0a1b-22"


@pytest.mark.parametrize(
    ("raw", "without", "with_them"),
    [
        ("Turn on the light.", "Turn on the light.", "Turn on the light."),
        ("#dis\nTurn (uh) on\xa0the (the) light", "Turn on the light", "Turn uh on the the light"),
        ("[Tell me about your day] I (um) slept.", "I slept.", "I um slept."),
        ("about your day] I slept [laughs] well", "I slept well", "I slept well"),
        ("a {n:new york} b {word}", "a new york b word", "a new york b word"),
        ("go (cs:hola) home (the", "go hola home (the", "go hola home (the"),
        ("~C ~B wo* work", "C B wo work", "C B wo work"),
        ("first line\r\nsecond line", "first line second line", "first line second line"),
        ("(uh)", "", "uh"),
    ],
)
def test_mark_up_becomes_two_references(raw: str, without: str, with_them: str) -> None:
    assert sap.transcripts(raw) == (without, with_them)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("[x]\n#ts\n0.5 1.2 hello", "time_stamps"), ("go {w:2} home", "unintelligible"),
        ("go {u:guess}", "unintelligible"), ("go { } home", "unintelligible"),
    ],
)  # fmt: skip
def test_transcripts_that_do_not_say_all_are_refused(raw: str, reason: str) -> None:
    with pytest.raises(sap.Untranscribed) as caught:
        sap.transcripts(raw)
    assert caught.value.reason == reason


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three splits; the first contributor has a good recording and one of every defect."""
    files = [
        sap_entry(f"{WHO}_1.wav", "Hello (uh) there."), sap_entry(f"{WHO}_gone.wav"), sap_entry(f"{WHO}_none.wav", None),
        sap_entry(f"{WHO}_empty.wav"), sap_entry(f"{WHO}_silent.wav", "(uh)"), sap_entry(f"{WHO}_w.wav", "{w:1} you"),
        sap_entry(f"{WHO}_ts.wav", "#ts\n0 1 a"), sap_entry(f"sub/{WHO}_1.wav"), {"Prompt": {}}, "text",
        {"Filename": f"{WHO}_x.wav", "Prompt": "text"},
    ]  # fmt: skip
    sounds = tuple(f"{WHO}_{name}.wav" for name in ("1", "none", "silent", "w", "ts", "unlisted", "x"))
    sap_contributor(tmp_path / "TRAIN" / WHO, files, sounds)
    (tmp_path / "TRAIN" / WHO / f"{WHO}_empty.wav").write_bytes(b"")
    sap_contributor(tmp_path / "Dev" / "c é", [sap_entry("1.wav")], ("1.wav",))
    sap_contributor(tmp_path / "test" / "d4", [sap_entry("d4_1.wav", "Good bye")], ("d4_1.wav",), Etiology=None)
    sap_contributor(tmp_path / "test" / "broken", [], ("broken_1.wav",))
    (tmp_path / "test" / "broken" / "broken.json").write_text('{"Files": [')
    (tmp_path / "test" / "bare").mkdir()
    (tmp_path / "test" / "bare" / "bare_1.wav").write_bytes(b"x" * 100)
    (tmp_path / "docs").mkdir()
    return tmp_path


@pytest.fixture
def found(root: Path) -> Found:
    return sap.find(root, {})


def test_what_can_be_used_is_found_with_its_columns(found: Found) -> None:
    assert [(one.utt_id, one.speaker, one.split) for one in found.recordings] == [
        ("SAP-c é_1", "SAP-c é", "validation"), (f"SAP-{WHO}_1", f"SAP-{WHO}", "train"), ("SAP-d4_1", "SAP-d4", "test"),
    ]  # fmt: skip
    one = found.recordings[1]
    assert one.transcript == "Hello there."
    assert (one.corpus, one.group, one.more["speaker_type"]) == ("sap", "dysarthric", "dysarthric")
    assert one.more["transcript_with_disfluencies"] == "Hello uh there."
    assert one.more["etiology"] == "Parkinson's Disease"
    assert one.more["prompt_category"] == "Digital Assistant"
    assert found.recordings[2].more["etiology"] == ""


def test_equal_words_have_equal_prompt_ids(found: Found) -> None:
    ids = {normalise(one.transcript): one.more["prompt_id"] for one in found.recordings}
    assert len(ids) == len(set(ids.values())) == 2
    assert found.recordings[0].more["prompt_id"] == found.recordings[1].more["prompt_id"]


def test_every_defect_has_its_reason(found: Found) -> None:
    reasons = {one.utt_id.removeprefix(f"SAP-{WHO}_"): one.reason for one in found.rejects}
    assert reasons == {
        "gone": "missing_file", "none": "no_transcript", "empty": "empty", "silent": "empty_transcript",
        "w": "unintelligible", "ts": "time_stamps", "entry9": "unreadable_json", "entry10": "unreadable_json",
        "x": "no_transcript", "unlisted": "no_transcript", "1": "duplicate",
        "SAP-broken_1": "unreadable_json", "SAP-bare_1": "unreadable_json",
    }  # fmt: skip
    assert {one.split for one in found.rejects} == {"train", "test"}
    assert {one.group for one in found.rejects} == {"dysarthric"}


def test_a_contributor_in_two_splits_is_said_and_no_name_is_given_twice(root: Path) -> None:
    sap_contributor(root / "Dev" / WHO, [sap_entry(f"{WHO}_1.wav")], (f"{WHO}_1.wav",))
    found = sap.find(root, {})
    assert any(note == f"contributors that are in more than one split: 1 ({WHO})" for note in found.notes)
    names = [one.utt_id for one in found.recordings]
    assert len(names) == len(set(names))


def test_a_missing_split_is_said(tmp_path: Path) -> None:
    sap_contributor(tmp_path / "DEV" / "a", [sap_entry("a_1.wav")], ("a_1.wav",))
    assert sap.find(tmp_path, {}).notes == ("no folder for: test, train",)


def test_a_wrong_root_says_what_was_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "wavs").mkdir()
    with pytest.raises(DataError, match=r"expected folders TRAIN, DEV or TEST .* has: wavs/"):
        sap.find(tmp_path, {})
    with pytest.raises(DataError, match="does not exist"):
        sap.find(tmp_path / "none", {})
    with pytest.raises(DataError, match="unknown option 'mic'"):
        sap.find(tmp_path, {"mic": "M5"})


def test_a_relative_root_gives_absolute_audio(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = sap.find(root, {})
    monkeypatch.chdir(root)
    assert sap.find(Path(), {}) == absolute


def test_sounds_whose_names_differ_in_the_case_of_their_ending_are_not_lost(tmp_path: Path) -> None:
    sap_contributor(tmp_path / "TRAIN" / "a", [sap_entry("a_1.wav")], ("a_1.wav", "a_1.WAV"))
    found = sap.find(tmp_path, {})
    assert [one.audio for one in found.recordings] == [(str(tmp_path / "TRAIN" / "a" / "a_1.wav"),)]
    assert [(one.utt_id, one.reason) for one in found.rejects] == [("SAP-a_1", "duplicate")]
