from __future__ import annotations

import json

import pytest

from trainables.errors import DataError
from trainables.vocabulary import Vocabulary, labels_needed, normalise

VOCABULARY = Vocabulary.from_transcripts(["AB A'B", "CA"])


def test_text_comes_back_from_its_labels() -> None:
    ids = VOCABULARY.encode("AB CA")
    frames = [label for pair in zip(ids, [VOCABULARY.blank] * len(ids)) for label in pair]
    assert VOCABULARY.decode(frames) == "AB CA"


def test_repeats_are_merged_unless_a_blank_stands_between() -> None:
    a, blank = VOCABULARY.encode("A")[0], VOCABULARY.blank
    assert VOCABULARY.decode([a, a, a]) == "A"
    assert VOCABULARY.decode([a, blank, a]) == "AA"


def test_a_vocabulary_of_small_letters_takes_and_gives_the_same_transcripts() -> None:
    small = Vocabulary(("<pad>", "|", "a", "b"))
    ids = small.encode("AB A")
    assert ids == [2, 3, 1, 2]
    assert small.decode(ids) == "AB A"
    assert small.unknown_characters("AC") == "c"


def test_characters_outside_the_vocabulary_are_named() -> None:
    assert VOCABULARY.unknown_characters("AÉZ") == "ZÉ"
    with pytest.raises(DataError, match="'ZÉ'"):
        VOCABULARY.encode("AÉZ")


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("  Don’t  stop! ", "DON'T STOP"),
        ("x-ray", "X RAY"),
        ("ﬁve", "FIVE"),
        ("Grüß Gott", "GRÜSS GOTT"),
        ("[...]", ""),
    ],
)
def test_normalisation(raw: str, normal: str) -> None:
    assert normalise(raw) == normal
    assert normalise(normal) == normal


def test_frames_needed_are_labels_and_one_more_between_equal_neighbours() -> None:
    assert labels_needed([1, 1, 1]) == 5
    assert labels_needed([1, 2, 1]) == 3
    assert labels_needed([]) == 0


def test_a_vocabulary_file_is_read_in_the_order_of_its_ids(tmp_path) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({"A": 2, "<pad>": 0, "|": 1}))
    assert Vocabulary.from_file(path).tokens == ("<pad>", "|", "A")
    path.write_text(Vocabulary.from_file(path).as_json())
    assert Vocabulary.from_file(path).tokens == ("<pad>", "|", "A")


@pytest.mark.parametrize("content", ["[]", "{", '{"A": 0}', '{"<pad>": 0, "A": 2}', '{"<pad>": "x"}'])
def test_a_broken_vocabulary_file_is_refused(tmp_path, content: str) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"vocab\.json"):
        Vocabulary.from_file(path)
