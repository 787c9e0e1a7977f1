"""The p-value to claim from speaks of what the interval speaks of, and the answer follows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from launcher.answer import answer
from launcher.comparison_sections import main_table
from launcher.comparisons import comparisons
from launcher.significance import claimed
from launcher.stats import summary_by_variant
from launcher.tallies import tally
from tests.launcher.scored_trials import scored, trials
from tests.launcher.test_comparisons import compared, drawn


@pytest.mark.parametrize("num_seeds", [1, 2, 5])
def test_p_to_claim_from_is_the_larger_of_that_over_speakers_and_that_of_the_interval(num_seeds: int) -> None:
    row = compared(*drawn(num_seeds)).loc[0]
    assert row["p"] == max(row["p_sign_flip"], row["p_interval"])
    assert row["p_interval"] == pytest.approx(2 * stats.t.sf(abs(row["difference"]) / row["se"], row["df"]))


def test_seeds_that_differ_are_heard_by_p_and_not_by_sign_flips_of_speakers() -> None:
    """Every speaker agrees in every seed, and the seeds disagree: these models differ, the variants may not."""
    speakers, seeds = [f"S{k}" for k in range(10)], range(5)
    errors = {"a": [3, 3, 3, 3, 3], "b": [0, 3, 3, 3, 4]}
    rows = [scored(f"{name}-{k}", [errors[name][k]] * 10, [6] * 10, speakers) for name in "ab" for k in seeds]
    results = trials(*((name, k, "done", errors[name][k] / 6) for name in "ab" for k in seeds))
    row = compared(results, pd.concat(rows)).loc[0]
    assert row["p_sign_flip"] == 2 / 2**10
    expected: Any = stats.ttest_1samp([-0.5, 0, 0, 0, 1 / 6], 0)
    assert row["p"] == row["p_holm"] == pytest.approx(expected.pvalue)


def test_one_speaker_has_a_p_of_what_its_interval_speaks_of() -> None:
    row = compared(*drawn(5, 1)).loc[0]
    assert np.isnan(row["p_sign_flip"])
    assert row["p"] == row["p_interval"]


def test_a_test_that_says_nothing_is_left_out_of_the_claim() -> None:
    assert claimed(0.2, np.nan) == 0.2
    assert claimed(0.01, 0.3) == 0.3
    assert np.isnan(claimed(np.nan, np.nan))


def headline(results: pd.DataFrame, rows: pd.DataFrame, **changed: Any) -> str:
    table = comparisons(results, tally(results, rows), "a", rounds=2000).assign(**changed)
    return answer(results, summary_by_variant(results, "wer"), table, "a").headline


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0004, "], p < 0.001 by Holm's method."),
        (0.03, "], p = 0.030 by Holm's method."),
        (0.05, "], not shown to be other than zero (p = 0.050 by Holm's method)."),
    ],
)
def test_the_answer_says_what_p_after_holm_says(p: float, words: str) -> None:
    """The interval, which is not corrected for many variants, decides nothing where there is a p."""
    assert headline(*drawn(5), p_holm=p).endswith(words)
    assert headline(*drawn(5), p_holm=p, low=-1.0, high=1.0).split("]")[1] == words[1:]


def test_where_nothing_can_be_tested_the_answer_follows_the_interval() -> None:
    assert headline(*drawn(5), p_holm=np.nan, low=-0.2, high=-0.1).endswith("[\N{MINUS SIGN}20.0, \N{MINUS SIGN}10.0].")
    assert headline(*drawn(5), p_holm=np.nan, low=-0.2, high=0.1).endswith("an interval that includes zero.")


def test_the_answer_says_that_speakers_are_not_known() -> None:
    results, rows = drawn(5)
    found = headline(results, rows.assign(speaker="unknown"))
    assert " by Holm" not in found
    assert found.endswith("; with speakers that are not known this cannot be claimed to generalise.")


def test_a_trial_whose_loss_is_infinite_is_missed_in_the_mean_and_told() -> None:
    results, rows = drawn(3)
    losses = [1.0, np.nan, 3.0, 1.0, np.inf, 3.0]
    results = results.assign(nll_per_label=losses, cer=0.1)
    table = comparisons(results, tally(results, rows), "a", rounds=200)
    shown = main_table(results, table)
    place = shown.head.index("NLL per label (nats)")
    assert [row[place].text for row in shown.rows] == ["2.00 (2 of 3)"] * 2
    assert [row[place - 1].text for row in shown.rows] == ["10.0 %"] * 2
    cautions = answer(results, summary_by_variant(results, "wer"), table, "a").cautions
    assert (
        "Not every finished trial has a finite NLL per label: a (2 of 3), b (2 of 3). The means are those of the others."
        in cautions
    )
    whole = results.assign(nll_per_label=1.0)
    assert not any("finite" in told for told in answer(whole, summary_by_variant(whole, "wer"), table, "a").cautions)


def test_a_difference_that_is_not_shown_and_small_is_said_to_be_small() -> None:
    found = headline(*drawn(5), p_holm=0.4, equivalent=True, margin=0.01)
    assert found.endswith("not shown to be other than zero (p = 0.400 by Holm's method), yet within 1.0 points.")
