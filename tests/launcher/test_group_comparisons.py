"""Comparisons within the classes of a column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from launcher.comparisons import comparisons, group_comparisons
from launcher.tallies import tally
from tests.launcher.report_tables import study_tables
from tests.launcher.scored_trials import scored, trials


def test_groups_are_compared_as_if_they_were_alone() -> None:
    tables = study_tables(num_seeds=2)
    table = group_comparisons(tables.results, tally(tables.results, tables.utterances, ["group"]), "group", rounds=2000)
    only = tables.utterances[tables.utterances["group"] == "word"]
    alone = comparisons(tables.results, tally(tables.results, only), rounds=2000).iloc[1:].set_index("variant")
    words = table[table["value"] == "word"].set_index("variant")
    names = ["difference", "low", "high", "p_sign_flip", "p", "n_speakers", "n_utterances"]
    pd.testing.assert_frame_equal(words[names].astype(float), alone[names].astype(float))
    expected = stats.false_discovery_control(table["p"].to_numpy(dtype=float))
    assert list(table["p_bh"]) == pytest.approx(list(expected))


def test_a_difference_within_the_noise_of_its_class_is_marked_and_in_no_other_class() -> None:
    tables = study_tables(num_seeds=2)
    tallied = tally(tables.results, tables.utterances, ["group"])
    table = group_comparisons(tables.results, tallied, "group", noise={"word": 1.0}, rounds=100)
    assert (table["within_noise"] == (table["value"] == "word")).all()
    assert list(table["noise_floor"].notna()) == list(table["value"] == "word")
    assert not group_comparisons(tables.results, tallied, "group", rounds=100)["within_noise"].any()


def test_a_class_without_reference_words_keeps_its_row_without_a_number() -> None:
    rows = pd.concat([scored(name, [1, 0], [2, 0]).assign(group=["word", "silence"]) for name in ("a-1", "b-1")])
    results = trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.5))
    table = group_comparisons(results, tally(results, rows, ["group"]), "group").set_index("value")
    assert table.loc["word", "difference"] == 0
    assert np.isnan(table.loc["silence", "difference"])
    assert np.isnan(table.loc["silence", "p_bh"])
