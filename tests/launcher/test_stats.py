"""Statistics against closed forms and hand-counted tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from launcher.comparisons import group_rates
from launcher.stats import summary_by_variant
from launcher.tallies import tally
from tests.launcher.scored_trials import scored, trials


def group_table(utterances: pd.DataFrame, results: pd.DataFrame, column: str) -> pd.DataFrame:
    return group_rates(results, tally(results, utterances, [column]), column)


def test_summary_counts_every_requested_trial_but_averages_only_finished_ones() -> None:
    results = trials(("a", 1, "done", 0.4), ("a", 2, "done", 0.6), ("a", 3, "failed", 0.0), ("b", 1, "pending", np.nan))
    table = summary_by_variant(results, "wer").set_index("variant")
    assert list(table.loc["a", ["n_requested", "n_done", "n_values"]]) == [3, 2, 2]
    assert table.loc["a", "mean"] == pytest.approx(0.5)
    assert table.loc["a", "sd"] == pytest.approx(0.2 / 2**0.5)
    assert list(table.loc["b", ["n_requested", "n_done", "n_values"]]) == [1, 0, 0]
    assert np.isnan(table.loc["b", "mean"])


def test_summary_leaves_out_values_that_are_not_finite_and_says_how_many_are_left() -> None:
    results = trials(("a", 1, "done", 0.4), ("a", 2, "done", np.inf), ("a", 3, "done", np.nan))
    row = summary_by_variant(results, "wer").iloc[0]
    assert (row["n_done"], row["n_values"], row["mean"]) == (3, 1, pytest.approx(0.4))


def test_group_rate_is_a_ratio_of_sums_not_a_mean_of_rates() -> None:
    table = group_table(scored("a-1", [1, 0], [1, 9]), trials(("a", 1, "done", 0.1)), "group")
    assert table.loc[0, "wer"] == pytest.approx(1 / 10)
    assert (table.loc[0, "n_utterances"], table.loc[0, "reference_words"]) == (2, 10)


def test_group_without_reference_words_has_no_rate() -> None:
    silent = scored("a-1", [0, 0], [0, 0]).assign(insertions=1)
    table = group_table(silent, trials(("a", 1, "done", np.nan)), "group")
    assert table["wer"].isna().all()


def test_grouping_by_an_unknown_column_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"cannot group by 'severity'.*'speaker'"):
        group_table(scored("a-1", [0], [1]), trials(("a", 1, "done", 0.0)), "severity")


def test_utterances_without_a_group_are_a_class_of_their_own() -> None:
    rows = scored("a-1", [0, 1], [1, 1]).assign(group=pd.Series(["word", None]))
    table = group_table(rows, trials(("a", 1, "done", 0.5)), "group")
    assert dict(zip(table["value"], table["wer"], strict=True)) == {"word": 0.0, "(not given)": 1.0}
