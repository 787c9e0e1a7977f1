"""Named splits hold what their names promise, whatever the order of the rows."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from union_of_corpora import L1S, ROWS, UNION, Row, columns

from trainables.corpora import overlap, splits
from trainables.corpora.links import prompt_keys, speaker_keys, unit_keys
from trainables.errors import DataError

NAMES = ["dependent", "independent", "zero-shot", "prompts", "speakers", "blocks"]
WITH_SPEAKER = ["loso(speaker=UA-M05)", "loso-prompts(speaker=TORGO-M05)"]


def of(spelling: str, rows: list[Row] = ROWS) -> dict[str, str]:
    found = columns(rows)
    return dict(zip(found["utt_id"], splits.checked(spelling, found)))


def places(split_N: list[str], split: str) -> list[int]:
    return [place for place, one in enumerate(split_N) if one == split]


def values(keys_N: list[str], split_N: list[str], split: str) -> set[str]:
    return {keys_N[place] for place in places(split_N, split)}


def disjoint(keys_N: list[str], split_N: list[str]) -> bool:
    train, validation, test = (values(keys_N, split_N, split) for split in splits.SPLITS)
    return not (train & validation or train & test or validation & test)


@pytest.mark.parametrize("spelling", NAMES + WITH_SPEAKER)
def test_the_order_of_the_rows_does_not_matter(spelling: str) -> None:
    shuffled = random.Random(7).sample(ROWS, len(ROWS))
    assert of(spelling, shuffled) == of(spelling)


@pytest.mark.parametrize("spelling", NAMES + WITH_SPEAKER)
def test_all_microphones_of_an_utterance_are_in_one_split(spelling: str) -> None:
    units, split_N = unit_keys(UNION), splits.checked(spelling, UNION)
    assert len(set(units)) < len(units)
    assert len(set(zip(units, split_N))) == len(set(units))


def test_splits_do_not_depend_on_the_hashes_of_python() -> None:
    program = (
        "from union_of_corpora import UNION; from trainables.corpora import splits; import hashlib;"
        f"print(hashlib.sha256(repr([splits.assign(s, UNION) for s in {NAMES + WITH_SPEAKER!r}]).encode()).hexdigest())"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[3])])
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_dependent_takes_a_tenth_of_every_speaker_for_each_held_out_split() -> None:
    split_N = splits.assign("dependent", UNION)
    counts = Counter(zip(UNION["speaker"], split_N, unit_keys(UNION)))
    units = Counter((speaker, split) for speaker, split, _ in counts)
    for speaker in set(UNION["speaker"]):
        total = sum(units[speaker, split] for split in splits.SPLITS)
        assert units[speaker, "test"] == units[speaker, "validation"] == (total + 5) // 10
        assert units[speaker, "train"] > 0


def test_independent_holds_a_quarter_of_the_speakers_out_and_none_is_in_two_splits() -> None:
    split_N = splits.assign("independent", UNION)
    assert disjoint(speaker_keys(UNION), split_N)
    held = values(UNION["speaker"], split_N, "validation"), values(UNION["speaker"], split_N, "test")
    total = len(set(UNION["speaker"]))
    assert abs(len(held[0]) - len(held[1])) <= 1
    assert abs(len(held[0] | held[1]) / total - 0.25) < 0.02


def test_independent_spreads_over_corpora_kinds_severities_and_first_languages() -> None:
    split_N = splits.assign("independent", UNION)
    for corpus, kind in {(row["corpus"], row["speaker_type"]) for row in ROWS}:
        names = {row["speaker"] for row in ROWS if (row["corpus"], row["speaker_type"]) == (corpus, kind)}
        held = names - values(UNION["speaker"], split_N, "train")
        assert abs(len(held) - len(names) / 4) <= 1
        assert len(held) >= 1
    held_rows = [row for row, split in zip(ROWS, split_N) if split != "train"]
    assert len({row["severity"] for row in held_rows if row["corpus"] == "uaspeech"}) == 5
    assert {row["l1"] for row in held_rows if row["corpus"] == "l2arctic"} == set(L1S)


def test_zero_shot_never_trains_on_a_dysarthric_speaker_and_trains_on_all_others() -> None:
    split_N = splits.assign("zero-shot", UNION)
    kinds = {split: {UNION["speaker_type"][place] for place in places(split_N, split)} for split in splits.SPLITS}
    assert kinds == {"train": {"control", "l2"}, "validation": {"dysarthric"}, "test": {"dysarthric"}}
    assert disjoint(speaker_keys(UNION), split_N)
    assert "" not in split_N
    assert len(values(UNION["speaker"], split_N, "test")) == 11
    for corpus in ("uaspeech", "torgo"):
        halves = [len({s for s in values(UNION["speaker"], split_N, split)
                       if s.startswith(corpus[:2].upper())}) for split in ("validation", "test")]  # fmt: skip
        assert abs(halves[0] - halves[1]) <= 1


def test_zero_shot_leaves_speakers_of_unknown_kind_out() -> None:
    rows = [*ROWS, {"utt_id": "x", "speaker": "x", "corpus": "mine", "group": "word", "transcript": "x"}]
    assert of("zero-shot", rows)["x"] == ""


def test_prompts_shares_no_text_between_splits_and_takes_about_a_tenth() -> None:
    split_N = splits.assign("prompts", UNION)
    assert disjoint(prompt_keys(UNION), split_N)
    rows = [{"utt_id": str(n), "speaker": "s", "corpus": "c", "transcript": f"text {n}"} for n in range(4000)]
    counts = Counter(of("prompts", rows).values())
    assert abs(counts["test"] / 4000 - 0.1) < 0.02
    assert abs(counts["validation"] / 4000 - 0.1) < 0.02


def test_the_split_of_a_text_is_the_same_in_every_corpus_and_every_part_of_it() -> None:
    whole = of("prompts")
    for corpus in ("uaspeech", "torgo", "l2arctic"):
        rows = [row for row in ROWS if row["corpus"] == corpus][::3]
        part = dict(zip((row["utt_id"] for row in rows), splits.assign("prompts", columns(rows))))
        assert part.items() <= whole.items()


def test_a_word_under_two_codes_is_one_text() -> None:
    rows = [
        {"utt_id": "a", "corpus": "uaspeech", "prompt_id": "B1_UW1", "transcript": "X-ray", "speaker": "1"},
        {"utt_id": "b", "corpus": "uaspeech", "prompt_id": "B2_UW7", "transcript": "x ray", "speaker": "2"},
        {"utt_id": "c", "corpus": "uaspeech", "prompt_id": "B2_UW7", "transcript": "", "speaker": "3"},
        {"utt_id": "d", "corpus": "torgo", "prompt_id": "B2_UW7", "transcript": "", "speaker": "4"},
    ]
    keys = prompt_keys(columns(rows))
    assert keys[0] == keys[1] == keys[2] == "X RAY" != keys[3]


def test_speakers_are_in_one_split_each() -> None:
    split_N = splits.assign("speakers", UNION)
    assert disjoint(speaker_keys(UNION), split_N)
    counts = Counter(dict(zip(UNION["speaker"], split_N)).values())
    assert abs(counts["test"] / sum(counts.values()) - 0.1) < 0.03
    assert abs(counts["validation"] - counts["test"]) <= 1


def test_equal_names_of_two_corpora_are_two_speakers() -> None:
    rows = [
        {"utt_id": f"{corpus}{n}", "speaker": f"M{n:02}", "corpus": corpus, "transcript": f"{n}"}
        for corpus in ("torgo", "uaspeech")
        for n in range(20)
    ]
    assert sum(split != "train" for split in of("speakers", rows).values()) == 8


def test_blocks_tests_on_the_second_and_uses_nothing_without_a_block() -> None:
    split_N = splits.assign("blocks", UNION)
    for row, split in zip(ROWS, split_N):
        assert (split == "test") == (row.get("block") == "B2")
        assert (split == "") == (row["corpus"] != "uaspeech")
    train, validation = (values(prompt_keys(UNION), split_N, split) for split in ("train", "validation"))
    assert validation
    assert not train & validation


def test_loso_tests_on_one_speaker_and_on_all_of_it() -> None:
    found = of("loso(speaker=UA-M05)")
    assert {utt_id for utt_id, split in found.items() if split == "test"} == {
        row["utt_id"] for row in ROWS if row["speaker"] == "UA-M05"
    }
    assert "" not in found.values()
    assert of("LOSO( speaker = ua-m05 )") == found


def test_loso_prompts_leaves_every_text_of_the_tested_speaker_out() -> None:
    split_N = splits.assign("loso-prompts(speaker=TORGO-M05)", UNION)
    texts = prompt_keys(UNION)
    tested = values(texts, split_N, "test")
    assert not tested & (values(texts, split_N, "train") | values(texts, split_N, "validation"))
    same = splits.assign("loso(speaker=TORGO-M05)", UNION)
    assert all(split in (other, "") for split, other in zip(split_N, same))
    assert {texts[place] for place in places(split_N, "")} <= tested


def test_a_speaker_may_be_named_as_the_corpus_does_when_that_is_clear() -> None:
    assert of("loso(speaker=F05)") == of("loso(speaker=UA-F05)")
    with pytest.raises(DataError, match="more than one speaker is meant: TORGO-M05, UA-M05"):
        of("loso(speaker=M05)")
    with pytest.raises(DataError, match="speaker='X9': the data have no such speaker; they have: L2-ABA"):
        of("loso(speaker=X9)")
    with pytest.raises(DataError, match="2 corpora have a speaker of this name"):
        of("loso(speaker=UA-F05)", [*ROWS, {"utt_id": "x", "speaker": "UA-F05", "corpus": "copy", "transcript": "x"}])


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("random", r"'random' is unknown; choose one of: dependent, .*, loso\(speaker=NAME\)"),
        ("", "is unknown"), ("loso", r"write loso\(speaker=NAME\)"), ("loso(F01)", "write loso"),
        ("loso(speaker=)", "write loso"), ("loso(speaker=a, speaker=b)", "write loso"),
        ("dependent(share=3)", "write dependent"), ("loso(speaker=a", "is unknown"),
    ],
)  # fmt: skip
def test_a_wrong_spelling_says_what_is_allowed(spelling: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        splits.assign(spelling, UNION)


def test_a_split_that_leaves_one_empty_is_refused_for_a_study() -> None:
    rows = [row for row in ROWS if row["speaker"] == "L2-ABA"]
    with pytest.raises(DataError, match=r"leaves validation and test without utterances: .* 1 speakers, 50 texts"):
        splits.checked("zero-shot", columns(rows))
    assert set(splits.assign("zero-shot", columns(rows))) == {"train"}


def test_copies_of_a_sound_file_stay_together() -> None:
    rows = [
        {
            "utt_id": f"{n}",
            "speaker": f"s{n % 7}",
            "corpus": "c",
            "transcript": f"text {n}",
            "audio_sha256": f"h{n // 2}",
        }
        for n in range(200)
    ]
    for spelling in ("dependent", "prompts"):
        found = of(spelling, rows)
        assert all(found[str(n)] == found[str(n + 1)] for n in range(0, 200, 2))


@pytest.mark.parametrize("spelling", ["independent", "speakers"])
@pytest.mark.parametrize("count", [3, 4, 7, 30])
def test_few_speakers_and_speakers_that_are_each_of_their_own_kind_are_held_out_too(spelling: str, count: int) -> None:
    rows = [
        {"utt_id": f"{n}", "speaker": f"{n}", "corpus": f"{n}", "group": f"{n}", "transcript": "x"}
        for n in range(count)
    ]
    found = Counter(of(spelling, rows).values())
    assert abs(found["test"] - found["validation"]) <= 1
    assert found["train"] >= count // 3


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 30)), min_size=1, max_size=80), st.integers(0, 3))
@settings(max_examples=60)
def test_any_data_are_split_the_same_in_any_order(pairs: list[tuple[int, int]], seed: int) -> None:
    rows = [
        {"utt_id": f"{n}", "speaker": f"s{who}", "corpus": f"c{who % 2}", "transcript": f"t{what}", "group": "l2"}
        for n, (who, what) in enumerate(pairs)
    ]
    shuffled = random.Random(seed).sample(rows, len(rows))
    for spelling in ("dependent", "independent", "speakers", "prompts"):
        found = columns(rows)
        split_N = splits.assign(spelling, found)
        again = columns(shuffled)
        assert dict(zip(found["utt_id"], split_N)) == dict(zip(again["utt_id"], splits.assign(spelling, again)))
        keys = {"dependent": unit_keys, "prompts": prompt_keys}.get(spelling, speaker_keys)(found)
        assert disjoint(keys, split_N)


@pytest.mark.parametrize(
    ("spelling", "shared"),
    [
        ("dependent", {"speaker", "text"}), ("independent", {"text"}), ("speakers", {"text"}), ("prompts", {"speaker"}),
        ("loso-prompts(speaker=TORGO-M05)", {"speaker"}),
    ],
)  # fmt: skip
def test_the_leak_report_finds_what_a_split_shares_and_nothing_else(spelling: str, shared: set[str]) -> None:
    split_N = splits.assign(spelling, UNION)
    rows = overlap.report({**UNION, "split": split_N})
    assert len(rows) == 6
    assert {str(row["what"]) for row in rows if row["shared"]} == shared
    if spelling.startswith("loso"):
        assert all(row["shared"] == 0 for row in rows if row["second"] == "test")
