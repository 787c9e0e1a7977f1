"""The keys that leave utterances out leave out what they say, and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.errors import DataError
from trainables.selection import Selection, is_dysarthric, original_name

ROWS = [
    ("a1", "train", "F01", "torgo", "dysarthric"), ("a2", "train", "FC01", "torgo", "word"),
    ("a3", "train", "CM05", "uaspeech", "word"), ("a4", "test", "M04", "uaspeech", "dysarthric"),
    ("a5", "train", "LSKA", "l2arctic", "l2"), ("a6", "validation", "ABA", "l2arctic", "L2"),
    ("a7", "train", "S1", "mine", "Control"),
]  # fmt: skip


def columns(rows=ROWS) -> dict[str, list[str]]:
    names = ("utt_id", "split", "speaker", "corpus", "group")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def names(selection: Selection, rows=ROWS) -> list[str]:
    return [rows[place][0] for place in selection.kept(columns(rows))]


def test_controls_are_known_by_their_column_or_by_their_names_in_torgo_and_ua_speech() -> None:
    assert names(Selection(filter_controls=True)) == ["a1", "a4", "a5", "a6"]


@pytest.mark.parametrize("corpus", ["mine", "toronto", "uabc"])
def test_the_names_of_controls_mean_nothing_in_another_corpus(corpus: str) -> None:
    rows = [("x", "train", "MC01", corpus, "word"), ("y", "train", "CM01", corpus, "word")]
    assert names(Selection(filter_controls=True), rows) == ["x", "y"]


@pytest.mark.parametrize(
    ("corpus", "speaker"), [("to", "FC01"), ("TORGO-array", "MC01"), ("UA", "CM01"), ("UA-Speech", "CF02")]
)
def test_torgo_and_ua_speech_are_known_by_their_usual_names(corpus: str, speaker: str) -> None:
    assert names(Selection(filter_controls=True), [("x", "train", speaker, corpus, "word")]) == []


@pytest.mark.parametrize("name", ["uaspeech", "UASpeech", "UA-Speech", "ua_speech"])
def test_a_corpus_is_left_out_by_its_name_however_it_is_spelt(name: str) -> None:
    assert names(Selection(filter_datasets=(name,))) == ["a1", "a2", "a5", "a6", "a7"]


def test_a_corpus_whose_name_begins_with_that_of_another_is_another() -> None:
    rows = [("a", "train", "S", name, "word") for name in ("torgo", "torgo_clean", "tor")]
    for name in ("torgo", "torgo_clean", "tor"):
        (left,) = {row[3] for row in rows} - {row[3] for row in kept_rows(Selection(filter_datasets=(name,)), rows)}
        assert left == name


def kept_rows(selection: Selection, rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [rows[place] for place in selection.kept(columns(rows))]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ua", "no such corpus; they have: l2arctic, mine, torgo, uaspeech; did you mean uaspeech\\?"),
        ("ua-speech-words", "no such corpus.*did you mean uaspeech\\?"),
        ("sap", "they have: l2arctic, mine, torgo, uaspeech$"),
    ],
)
def test_a_name_of_no_corpus_is_told_with_those_there_are(name: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        names(Selection(filter_datasets=("torgo", name)))


def test_corpora_that_only_their_case_tells_apart_are_each_left_out_by_its_own_spelling() -> None:
    rows = [("a", "train", "S", "Mine", "word"), ("b", "train", "S", "mine", "word")]
    assert names(Selection(filter_datasets=("mine",)), rows) == ["a"]
    with pytest.raises(DataError, match="may be Mine or mine; spell it as the data do"):
        names(Selection(filter_datasets=("MINE",)), rows)


@pytest.mark.parametrize("spelling", ["SKA", "LSKA"])
def test_the_speakers_of_l2_arctic_may_carry_the_letter_of_the_original(spelling: str) -> None:
    rows = [("a", "train", "SKA", "l2arctic", "l2"), ("b", "train", "ABA", "l2arctic", "l2"), *ROWS[:1]]
    assert names(Selection(l2_speakers=(spelling,)), rows) == ["a", "a1"]


def test_the_names_of_the_importers_are_known_too() -> None:
    rows = [
        ("a", "train", "UA-CF03", "uaspeech", "word"), ("b", "train", "UA-F02", "uaspeech", "dysarthric"),
        ("c", "train", "TORGO-MC04", "torgo", "word"), ("d", "train", "TORGO-M04", "torgo", "dysarthric"),
        ("e", "train", "L2-ABA", "l2arctic", "l2"), ("f", "train", "L2-LXC", "l2arctic", "l2"),
    ]  # fmt: skip
    assert names(Selection(filter_controls=True), rows) == ["b", "d", "e", "f"]
    for spelling in ("ABA", "LABA", "L2-ABA"):
        assert names(Selection(l2_speakers=(spelling,)), rows) == ["a", "b", "c", "d", "e"]
    with pytest.raises(DataError, match="they have: L2-ABA, L2-LXC"):
        names(Selection(l2_speakers=("XC",)), rows)
    assert [is_dysarthric(columns(rows), place) for place in range(6)] == [False, True, False, True, False, False]


@pytest.mark.parametrize(
    ("speaker", "name"),
    [("UA-F02", "F02"), ("TORGO-FC01", "FC01"), ("L2-ABA", "ABA"), ("SAP-1-2", "1-2"), ("F02", "F02"), ("LXC", "LXC")],
)
def test_the_name_that_the_corpus_gives_is_found(speaker: str, name: str) -> None:
    assert original_name(speaker) == name


def test_unknown_speakers_and_data_without_any_are_told() -> None:
    with pytest.raises(DataError, match="no second-language speaker XYZ; they have: ABA, LSKA"):
        names(Selection(l2_speakers=("XYZ",)))
    with pytest.raises(DataError, match="leave the key out"):
        names(Selection(l2_speakers=("ABA",)), ROWS[:2])


def test_a_filter_that_changes_nothing_says_so() -> None:
    assert Selection(filter_controls=True).without_effect(columns(ROWS[:1]))
    assert not Selection(filter_controls=True).without_effect(columns())


@given(st.floats(0.001, 1), st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 3))
def test_a_fraction_takes_its_share_of_every_speaker_and_no_speaker_is_lost(fraction, sizes, seed) -> None:
    rows = [
        (f"{speaker}-{n}", "train", str(speaker), "c", "g") for speaker, size in enumerate(sizes) for n in range(size)
    ]
    kept = names(Selection(debug_dataset=fraction), rows)
    for speaker, size in enumerate(sizes):
        assert sum(name.startswith(f"{speaker}-") for name in kept) == max(1, round(fraction * size))
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert set(names(Selection(debug_dataset=fraction), shuffled)) == set(kept)


def test_the_fraction_is_taken_of_what_the_filters_leave() -> None:
    rows = [(f"{n}", "train", "S", "c", "control" if n < 50 else "word") for n in range(100)]
    assert len(names(Selection(filter_controls=True, debug_dataset=0.1), rows)) == 5


def test_the_keys_of_a_configuration_make_a_selection() -> None:
    assert Selection.of({}) == Selection.of({"filter_datasets": [], "debug_dataset": None}) == Selection()
    assert Selection.of({"debug_dataset": 0.5, "l2_speakers": ["A"]}) == Selection(
        l2_speakers=("A",), debug_dataset=0.5
    )
