"""Figures show the numbers they were given, in colours that everyone can read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from launcher import plots
from launcher.comparisons import group_rates
from launcher.tallies import tally
from tests.launcher.report_tables import EMPTY, study_tables

PAPERS = ("#ffffff", "#14171b")  # the two backgrounds of the report


def traces_of(figure: go.Figure) -> list[Any]:
    """Return the traces; plotly's own type for them has no attributes."""
    return list(figure.data)


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    channels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("colour", [*plots.PALETTE, plots._INK])
def test_every_colour_has_the_contrast_of_graphics_on_both_backgrounds(colour: str, paper: str) -> None:
    light, dark = sorted([luminance(colour), luminance(paper)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_every_finished_seed_is_a_point_and_the_mean_is_marked() -> None:
    results = study_tables().results
    traces = traces_of(plots.seed_strip(results, "wer"))
    wer = results.loc[results["variant"] == "reduction=sum", "wer"] * 100
    assert np.sort(traces[2].x) == pytest.approx(np.sort(wer))
    assert list(traces[3].x) == [pytest.approx(wer.mean())]
    assert sum(len(trace.x) for trace in traces[::2]) == (results["status"] == "done").sum()


def test_bars_have_the_rates_of_the_group_table() -> None:
    tables = study_tables()
    table = group_rates(tables.results, tally(tables.results, tables.utterances, ["group"]), "group")
    first = traces_of(plots.group_bars(table))[0]
    assert list(first.y) == pytest.approx(list(table.loc[table["variant"] == first.name, "wer"] * 100))


def test_a_line_of_one_deviation_does_not_go_below_a_rate_of_0() -> None:
    table = pd.DataFrame({"variant": "a", "value": ["x", "y"], "wer": [0.1, 0.5], "wer_sd": [0.3, 0.2]})
    (bars,) = traces_of(plots.group_bars(table))
    assert list(bars.error_y.array) == pytest.approx([30, 20])
    assert list(bars.error_y.arrayminus) == pytest.approx([10, 20])


def test_a_variant_keeps_its_colour_when_another_has_no_bars() -> None:
    tables = study_tables()
    table = group_rates(tables.results, tally(tables.results, tables.utterances, ["group"]), "group")
    variants = list(tables.results["variant"].unique())
    bars = traces_of(plots.group_bars(table[table["variant"] != variants[0]], variants))
    assert bars[0].name == variants[1]
    assert bars[0].marker.color == plots.PALETTE[1]


def curves(history: pd.DataFrame, results: pd.DataFrame, metric: str) -> go.Figure:
    points = plots.curve_table(history, results, metric)
    return plots.learning_curves(points, list(results["variant"].unique()), metric)


def test_the_mean_curve_is_over_finished_trials_and_the_others_are_dotted() -> None:
    results = pd.DataFrame({"trial_id": ["x", "y"], "variant": "v", "status": ["done", "failed"]})
    history = pd.DataFrame({"trial_id": ["x", "x", "y"], "update": [1, 2, 1], "nll_per_label": [4.0, 2.0, 90.0]})
    failed, mean = traces_of(curves(history, results, "nll_per_label"))
    assert list(mean.y) == [4.0, 2.0]
    assert (failed.line.dash, mean.line.dash) == ("dot", "solid")
    assert [trace.showlegend for trace in (failed, mean)] == [False, True]


def test_the_band_goes_from_the_lowest_to_the_highest_finished_seed_around_their_mean() -> None:
    results = pd.DataFrame({"trial_id": list("xyz"), "variant": "v", "status": ["done", "done", "interrupted"]})
    history = pd.DataFrame({"trial_id": list("xxyyz"), "update": [1, 2, 1, 2, 1], "loss": [4.0, 2.0, 8.0, 3.0, 99.0]})
    bands = plots.band_table(plots.curve_table(history, results, "loss"))
    assert bands[["trials", "low", "mean", "high"]].to_numpy().tolist() == [[2, 4, 6, 8], [2, 2, 2.5, 3]]
    band = traces_of(curves(history, results, "loss"))[0]
    assert (list(band.x), list(band.y)) == ([1, 2, 2, 1], [8, 3, 2, 4])


def test_one_seed_has_no_band_and_while_none_has_finished_all_are_averaged() -> None:
    results = pd.DataFrame({"trial_id": ["x", "y"], "variant": ["v", "w"], "status": ["done", "running"]})
    history = pd.DataFrame({"trial_id": ["x", "y"], "update": [1, 1], "loss": [4.0, 6.0]})
    assert all(trace.fill != "toself" for trace in traces_of(curves(history, results, "loss")))
    bands = plots.band_table(plots.curve_table(history, results, "loss"))
    assert list(bands["mean"]) == [4.0, 6.0]


def test_evaluations_are_marked_and_rows_without_one_are_left_out() -> None:
    tables = study_tables()
    figure = curves(tables.history, tables.results, "eval_wer")
    mean = next(trace for trace in traces_of(figure) if trace.name == "reduction=mean")
    assert mean.mode == "lines+markers"
    assert list(mean.x) == [20, 40, 60, 80, 100, 120]


def test_a_long_history_is_averaged_over_blocks_without_moving_its_mean() -> None:
    results = pd.DataFrame({"trial_id": ["x"], "variant": "v", "status": "done"})
    history = pd.DataFrame({"trial_id": "x", "update": np.arange(3000.0), "loss": np.arange(3000.0)})
    points = plots.curve_table(history, results, "loss")
    assert len(points) == 300
    assert points["value"].mean() == pytest.approx(history["loss"].mean())


def test_long_histories_of_one_variant_are_averaged_in_the_same_blocks() -> None:
    results = pd.DataFrame({"trial_id": ["x", "y"], "variant": "v", "status": "done"})
    one = pd.DataFrame({"trial_id": "x", "update": np.arange(3000.0), "loss": 1.0})
    other = pd.DataFrame({"trial_id": "y", "update": np.arange(0.0, 3000.0, 3), "loss": 3.0})
    bands = plots.band_table(plots.curve_table(pd.concat([one, other]), results, "loss"))
    assert len(bands) == 300
    assert set(bands["trials"]) == {2}
    assert set(bands["mean"]) == {2.0}


def test_a_steep_fall_is_drawn_on_a_logarithmic_axis_with_whole_labels() -> None:
    results = pd.DataFrame({"trial_id": ["x"], "variant": "v", "status": "done"})
    history = pd.DataFrame({"trial_id": "x", "update": [1, 2], "nll_per_label": [40.0, 1.5]})
    axis = curves(history, results, "nll_per_label").layout["yaxis"]
    assert axis.type == "log"
    assert list(axis.ticktext) == ["1", "2", "5", "10", "20", "50", "100", "200", "500"]


def test_tags_in_names_are_shown_not_obeyed() -> None:
    results = pd.DataFrame({"trial_id": ["x"], "variant": "<b>v</b>", "status": "done", "seed": 1, "wer": 0.5})
    figure = plots.seed_strip(results, "wer")
    assert list(figure.layout["yaxis"].ticktext) == ["&lt;b&gt;v&lt;/b&gt;"]


def test_empty_tables_give_empty_figures() -> None:
    assert not plots.seed_strip(EMPTY, "wer").data
    assert not plots.group_bars(EMPTY).data
    assert not plots.learning_curves(plots.curve_table(EMPTY, EMPTY, "eval_wer"), [], "eval_wer").data
