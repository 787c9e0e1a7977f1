"""The leak report counts by hand-made tables."""

from __future__ import annotations

from trainables.corpora import overlap

COLUMNS = {
    "utt_id": ["a", "b", "c", "d", "e", "f", "g"],
    "split": ["train", "train", "train", "test", "test", "validation", ""],
    "speaker": ["S1", "S1", "S2", "S1", "S3", "S4", "S1"],
    "corpus": ["x", "x", "x", "x", "x", "y", "x"],
    "prompt_id": ["p1", "p2", "p1", "", "p9", "p1", "p1"],
    "transcript": ["one", "two", "one", "Two!", "nine", "other", "one"],
    "audio_sha256": ["h1", "h2", "h3", "h4", "h3", "h6", "h1"],
}


def row(what: str, first: str = "train", second: str = "test") -> dict[str, str | int]:
    (found,) = [
        row for row in overlap.report(COLUMNS) if (row["what"], row["first"], row["second"]) == (what, first, second)
    ]
    return found


def test_shared_speakers_are_counted_with_their_utterances() -> None:
    assert row("speaker") == {
        "first": "train", "second": "test", "what": "speaker", "shared": 1, "first_distinct": 2, "second_distinct": 2,
        "first_utterances": 2, "second_utterances": 1, "second_all": 2, "examples": "S1",
    }  # fmt: skip


def test_texts_are_shared_by_prompt_or_by_words_or_by_sound() -> None:
    # "two" is p2 and the text of d; c and e are one sound file, which links "one" and "nine".
    found = row("text")
    assert (found["shared"], found["first_distinct"], found["second_distinct"]) == (2, 2, 2)
    assert found["examples"] == "nine, Two!"


def test_identical_sound_is_counted_by_its_hash() -> None:
    assert (row("sound")["shared"], row("sound")["examples"]) == (1, "e")
    without = {**COLUMNS, "audio_sha256": [""] * 7}
    assert [found["shared"] for found in overlap.report(without) if found["what"] == "sound"] == [0, 0, 0]


def test_every_utterance_of_a_shared_text_counts() -> None:
    turned = {**COLUMNS, "split": ["test", "test", "test", "train", "train", "", ""]}
    (found,) = [found for found in overlap.report(turned) if found["what"] == "text"]
    assert (found["shared"], found["first_utterances"], found["second_utterances"]) == (2, 2, 3)


def test_prompts_of_another_corpus_and_utterances_that_are_not_used_do_not_count() -> None:
    assert row("text", "train", "validation")["shared"] == 0
    assert row("speaker", "train", "validation")["shared"] == 0


def test_only_pairs_of_splits_that_there_are_and_hashes_that_there_are_are_reported() -> None:
    assert len(overlap.report(COLUMNS)) == 9
    few = {name: values[:5] for name, values in COLUMNS.items() if name != "audio_sha256"}
    assert [(row["first"], row["second"], row["what"]) for row in overlap.report(few)] == [
        ("train", "test", "speaker"), ("train", "test", "text"),
    ]  # fmt: skip


def test_lines_say_what_is_shared_and_keep_quiet_about_the_rest() -> None:
    assert overlap.lines(COLUMNS) == [
        "train and test share 1 speaker: 1 of 2 utterances of test (for example S1)",
        "train and test share 2 texts: 2 of 2 utterances of test (for example nine, Two!)",
        "train and test share 1 sound: 1 of 2 utterances of test (for example e)",
    ]
