"""Counts of utterances, whatever the parts they come in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from launcher.pairing import pair
from launcher.tallies import COLUMNS, COUNTS, Tally, tally
from tests.launcher.report_tables import EMPTY, study_tables, with_repeats
from tests.launcher.scored_trials import scored, trials

TABLES = study_tables(num_seeds=2)
WHOLE = tally(TABLES.results, TABLES.utterances, ["group"])


def cells(tallied: Tally) -> pd.DataFrame:
    """Return one row per trial and utterance, sorted."""
    frames = [
        tallied.utterances.astype(str).assign(
            trial_id=trial, **{name: getattr(tallied, name)[place] for name in COUNTS}
        )
        for place, trial in enumerate(tallied.trials["trial_id"])
    ]
    return pd.concat(frames).sort_values(["trial_id", "utt_id"]).reset_index(drop=True)


def test_counts_are_those_of_the_table() -> None:
    final = TABLES.utterances[TABLES.utterances["phase"] == "final"]
    own = final.groupby("trial_id")[["substitutions", "deletions", "insertions", "hits"]].sum()
    errors = own["substitutions"] + own["deletions"] + own["insertions"]
    for place, trial in enumerate(WHOLE.trials["trial_id"]):
        assert WHOLE.errors[place].sum() == errors[trial]
        assert WHOLE.words[place].sum() == own.loc[trial, ["substitutions", "deletions", "hits"]].sum()


@pytest.mark.parametrize("size", [1, 97, 333])
def test_parts_of_any_size_in_any_order_give_the_same_counts(size: int) -> None:
    rows = TABLES.utterances.sample(frac=1.0, random_state=size).head(40 * size)
    parts = (rows.iloc[start : start + size] for start in range(0, len(rows), size))
    whole = tally(TABLES.results, rows, ["group"])
    pd.testing.assert_frame_equal(cells(tally(TABLES.results, parts, ["group"])), cells(whole))


def test_what_a_trial_did_not_score_is_missing_and_not_perfect() -> None:
    rows = pd.concat([scored("a-1", [1, 1], [2, 2]), scored("b-1", [1], [2])])
    tallied = tally(trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.5)), rows)
    np.testing.assert_array_equal(tallied.errors, [[1, 1], [1, np.nan]])


def test_one_name_of_two_speakers_is_two_utterances() -> None:
    rows = scored("a-1", [1, 0], [1, 1], ["x", "y"]).assign(utt_id="same")
    assert tally(trials(("a", 1, "done", 0.5)), rows).errors.tolist() == [[1, 0]]


def of_two_corpora() -> pd.DataFrame:
    rows = scored("a-1", [1, 0, 1, 0, 1], [1] * 5, ["F03", "F03", "M01", "unknown", "unknown"])
    return rows.assign(corpus=["torgo", "uaspeech", "torgo", "torgo", "uaspeech"])


def test_a_name_that_two_corpora_have_is_two_speakers() -> None:
    tallied = tally(trials(("a", 1, "done", 0.5)), of_two_corpora(), ["speaker"])
    assert tallied.classes("speaker").tolist() == ["torgo/F03", "uaspeech/F03", "M01", "unknown", "unknown"]
    assert tallied.nameless().tolist() == [False, False, False, True, True]
    assert "corpus" not in tallied.utterances.columns


@pytest.mark.parametrize("corpus", [None, "", "one"])
def test_a_name_is_as_it_is_where_no_second_corpus_has_it(corpus: str | None) -> None:
    rows = of_two_corpora().assign(corpus=corpus)
    assert tally(trials(("a", 1, "done", 0.5)), rows).classes("speaker").tolist() == list(rows["speaker"])


def test_speakers_of_two_corpora_are_drawn_apart() -> None:
    """Two speakers called F03 are no single one, whose recordings would count as resembling each other."""
    speakers = ["F03", "M01"] * 4
    rows = pd.concat([scored(name, [1, 0] * 4, [2] * 8, speakers) for name in ("a-1", "b-1")])
    results = trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.5))
    corpus = (["torgo"] * 4 + ["uaspeech"] * 4) * 2
    assert pair(tally(results, rows.assign(corpus=corpus)), "b", "a").num_speakers == 4
    assert pair(tally(results, rows), "b", "a").num_speakers == 2


def test_an_utterance_that_stands_twice_in_a_trial_is_summed() -> None:
    rows = pd.concat([scored("a-1", [1], [3]), scored("a-1", [2], [3])])
    tallied = tally(trials(("a", 1, "done", 0.5)), rows)
    assert (tallied.errors.tolist(), tallied.words.tolist()) == ([[3]], [[6]])


def test_unfinished_trials_repeats_and_scores_before_training_are_left_out() -> None:
    repeated = with_repeats(TABLES, [0.1], differing=3)
    ours = tally(repeated.results, repeated.utterances, ["group"])
    pd.testing.assert_frame_equal(cells(ours), cells(WHOLE))
    assert set(WHOLE.trials["trial_id"]) == set(TABLES.results.loc[TABLES.results["status"] == "done", "trial_id"])


def test_missing_speakers_and_classes_have_a_name() -> None:
    rows = scored("a-1", [0, 1], [1, 1], ["x", None]).assign(group=[None, "word"])  # type: ignore[list-item]
    table = tally(trials(("a", 1, "done", 0.5)), rows, ["group"]).utterances
    assert list(table["speaker"]) == ["x", "(not given)"]
    assert list(table["group"]) == ["(not given)", "word"]


def test_no_utterances_give_an_empty_tally() -> None:
    tallied = tally(TABLES.results, EMPTY, ["group"])
    assert tallied.errors.shape == (len(tallied.trials), 0)
    with pytest.raises(ValueError, match=r"cannot group by 'group'.*'speaker'"):
        tallied.classes("group")


def test_the_columns_that_are_read_suffice() -> None:
    narrow = tally(TABLES.results, TABLES.utterances[[*COLUMNS, "group"]], ["group"])
    pd.testing.assert_frame_equal(cells(narrow), cells(WHOLE))
