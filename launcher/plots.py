"""Draw comparisons: data frame in, plotly figure out; nothing is read or written.

Backgrounds are transparent and every colour is legible on white and on near-black, so one figure serves
both. A variant keeps its colour and its marker in every figure of a study.
"""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from launcher.stats import first_runs, with_columns

# Hues of Okabe & Ito (2008), told apart by the colour-blind, with the bright ones darkened and the dark
# ones lightened until each has a contrast of 3:1 or more with both backgrounds of the report.
PALETTE = ("#0078b8", "#d55e00", "#009069", "#bf6499", "#a67c00", "#7f6ad0", "#3d8fa8", "#7a7a7a")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "hexagon")

# Metric -> axis title, factor from the unit of the table to the unit shown.
METRICS: dict[str, tuple[str, float]] = {
    "wer": ("WER (%)", 100.0),
    "cer": ("CER (%)", 100.0),
    "nll_per_label": ("NLL per label (nats)", 1.0),
    "eval_wer": ("validation WER (%)", 100.0),
    "eval_cer": ("validation CER (%)", 100.0),
    "eval_nll_per_label": ("validation NLL per label (nats)", 1.0),
    "loss": ("training loss (nats; its scale depends on the reduction)", 1.0),
    "grad_norm": ("gradient norm before clipping", 1.0),
    "clip_fraction": ("clipped updates so far (%)", 100.0),
    "update_ratio": ("norm of the step / norm of the weights (%)", 100.0),
    "padding_fraction": ("padding (% of the audio that was computed)", 100.0),
    "audio_seconds_per_second": ("seconds of speech trained on per second", 1.0),
}

_INK = "#767676"  # 4.5:1 on white, 4:1 on near-black; the report overrides it with its own ink
_GRID = "rgba(128, 128, 128, 0.25)"
_LOG_SPAN = 20  # a curve that falls by more than this factor is drawn on a logarithmic axis
_MAX_POINTS = 300  # per line: more than a screen can show, and the report stays small


def style(variants: list[str]) -> dict[str, dict[str, str]]:
    """Return the colour and the marker of each variant, by its place in the study."""
    return {
        name: {"color": PALETTE[rank % len(PALETTE)], "symbol": SYMBOLS[rank % len(SYMBOLS)]}
        for rank, name in enumerate(variants)
    }


def seed_strip(results: pd.DataFrame, metric: str = "wer") -> go.Figure:
    """Show every finished trial as a point, one row per variant, with the mean of the row as a bar.

    Args:
        results: one row per requested trial, in the order of the study.
        metric: a column of `results`; missing and infinite values are not drawn.
    """
    table = with_columns(first_runs(results), ["variant", "status", "seed", "trial_id", metric])
    variants = list(table["variant"].unique())
    title, factor = METRICS.get(metric, (metric, 1.0))
    figure = empty_figure(title, "", height=120 + 46 * max(1, len(variants)))
    for rank, (variant, look) in enumerate(style(variants).items()):
        trials = _finite_rows(table[(table["variant"] == variant) & (table["status"] == "done")], metric)
        values = trials[metric].astype(float) * factor
        if values.empty:
            continue
        spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        labels = [f"{variant}, seed {seed}" for seed in trials["seed"]]
        figure.add_scatter(
            x=values, y=rank + spread, mode="markers", name=label(variant), text=[label(x) for x in labels],
            marker={"size": 11, "opacity": 0.85, **look}, hovertemplate="%{text}: %{x:.3g}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[values.mean()], y=[rank], mode="markers", name=f"mean of {label(variant)}",
            marker={"symbol": "line-ns", "size": 30, "line": {"width": 3, "color": look["color"]}},
            hovertemplate=f"mean of {len(values)}: %{{x:.3g}}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(showlegend=False)
    figure.update_yaxes(
        tickvals=list(range(len(variants))), ticktext=[_wrapped(name) for name in variants],
        range=[len(variants) - 0.4, -0.6], showgrid=False, zeroline=False,
    )  # fmt: skip
    return figure


def group_bars(table: pd.DataFrame, variants: list[str] | None = None) -> go.Figure:
    """Show the WER of each class as bars side by side, with one standard deviation over seeds, cut at 0.

    Args:
        table: what `launcher.comparisons.group_rates` returns; classes without a rate get no bar.
        variants: all variants of the study in its order, so that colours agree between figures even when
            a variant has no finished trial; None means those of the table.
    """
    table = with_columns(table, ["variant", "value", "wer", "wer_sd"])
    figure = empty_figure("", "WER (%)", height=360)
    for variant, look in style(variants or list(table["variant"].unique())).items():
        rows = table[table["variant"] == variant]
        if rows.empty:
            continue
        deviation = rows["wer_sd"].astype(float) * 100
        below = np.minimum(deviation, rows["wer"].astype(float) * 100)  # a rate is not negative
        figure.add_bar(
            x=[label(value) for value in rows["value"]], y=rows["wer"].astype(float) * 100,
            name=label(variant),
            marker={"color": look["color"]}, error_y={"array": deviation, "arrayminus": below, "color": _INK, "width": 3},
            hovertemplate="%{fullData.name}, %{x}: %{y:.1f} %<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25, showlegend=True)
    figure.update_yaxes(rangemode="tozero")
    return figure


def curve_table(history: pd.DataFrame, results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric of each trial over updates.

    Where there are more than 300 updates, neighbouring ones are averaged, in the same blocks for all trials.

    Returns:
        variant, trial_id, status, update, value (in the unit shown), variants in the order of the study.
    """
    rows = _finite_rows(with_columns(history, ["trial_id", "update", metric]), metric)
    rows = pd.DataFrame({"trial_id": rows["trial_id"], "update": rows["update"], "value": rows[metric]})
    rows = rows.astype({"update": float, "value": float})
    grid = np.unique(rows["update"])
    rows["block"] = np.searchsorted(grid, rows["update"]) // max(1, math.ceil(len(grid) / _MAX_POINTS))
    # The place of a block is that of all trials, so that their values stand above each other.
    rows["update"] = rows.groupby("block")["update"].transform(lambda updates: updates.unique().mean())
    rows = rows.groupby(["trial_id", "update"], as_index=False)["value"].mean()
    rows["value"] *= METRICS.get(metric, (metric, 1.0))[1]
    trials = with_columns(first_runs(results), ["trial_id", "variant", "status"])[["variant", "trial_id", "status"]]
    merged = trials.merge(rows, on="trial_id", how="inner")
    return merged[["variant", "trial_id", "status", "update", "value"]]


def band_table(points: pd.DataFrame) -> pd.DataFrame:
    """Summarise the curves of each variant over its finished trials; while none has finished, over all.

    Args:
        points: what `curve_table` returns.

    Returns:
        variant, update, trials, mean, low and high (least and greatest value).
    """
    done = points["status"] == "done"
    some = done.groupby(points["variant"]).transform("any")
    rows = points[done | ~some.astype(bool)]
    bands = rows.groupby(["variant", "update"], sort=False)["value"].agg(["count", "mean", "min", "max"]).reset_index()
    bands.columns = pd.Index(["variant", "update", "trials", "mean", "low", "high"])
    order = {name: rank for rank, name in enumerate(points["variant"].unique())}
    return bands.sort_values(
        ["variant", "update"], key=lambda keys: keys.map(order) if keys.name == "variant" else keys
    )


def learning_curves(points: pd.DataFrame, variants: list[str], metric: str) -> go.Figure:
    """Show a metric over updates: the mean of each variant as a line, with a band from its lowest to its highest seed.

    Both are over finished trials, so that one that stopped early bends neither; the others are dotted lines.
    Values from evaluations (`eval_...`) are marked.

    Args:
        points: what `curve_table` returns.
        variants: all variants of the study in its order, so that colours agree between figures.
        metric: what it shows.
    """
    figure = empty_figure("update", METRICS.get(metric, (metric, 1.0))[0], height=400)
    bands = band_table(points)
    looks = style(variants)
    for variant, look in looks.items():
        _band(figure, bands[(bands["variant"] == variant) & (bands["trials"] > 1)], look)
    for variant, look in looks.items():
        rows = points[(points["variant"] == variant) & (points["status"] != "done")]
        for trial_id, trial in rows.groupby("trial_id", sort=False):
            _line(figure, trial["update"], trial["value"], look, f"{variant} ({trial_id})", thick=False)
        mean = bands[bands["variant"] == variant]
        if len(mean):
            _line(figure, mean["update"], mean["mean"], look, variant, thick=True, markers=metric.startswith("eval_"))
    values = points["value"]
    if len(values) and values.min() > 0 and values.max() / values.min() > _LOG_SPAN:
        ticks = _log_ticks(values.min(), values.max())
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    return figure


def _band(figure: go.Figure, rows: pd.DataFrame, look: dict[str, str]) -> None:
    """Fill from the lowest to the highest seed; a click on the variant in the legend hides it too."""
    if rows.empty:
        return
    red, green, blue = (int(look["color"][place : place + 2], 16) for place in (1, 3, 5))
    figure.add_scatter(
        x=[*rows["update"], *rows["update"][::-1]], y=[*rows["high"], *rows["low"][::-1]], mode="lines",
        line={"width": 0}, fill="toself", fillcolor=f"rgba({red}, {green}, {blue}, 0.2)", hoverinfo="skip",
        showlegend=False, legendgroup=look["color"] + look["symbol"],
    )  # fmt: skip


def _line(
    figure: go.Figure, updates: pd.Series, values: pd.Series, look: dict[str, str], name: str, *, thick: bool,
    markers: bool = False,
) -> None:  # fmt: skip
    """Add one curve; only thick ones are named in the legend, and a click there hides the thin ones too."""
    figure.add_scatter(
        x=updates, y=values, name=label(name), legendgroup=look["color"] + look["symbol"],
        showlegend=thick, mode="lines+markers" if markers else "lines", opacity=1.0 if thick else 0.6,
        line={"color": look["color"], "width": 2.5 if thick else 1.2, "dash": "solid" if thick else "dot"},
        marker={"symbol": look["symbol"], "size": 8},
        hovertemplate="%{fullData.name}<br>update %{x:.0f}: %{y:.3g}<extra></extra>",
    )  # fmt: skip


def empty_figure(x_title: str, y_title: str, height: int) -> go.Figure:
    """Return an empty figure in the look that all share."""
    axis: dict[str, Any] = {"gridcolor": _GRID, "zerolinecolor": _GRID, "automargin": True}
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": _INK},
            "margin": {"l": 56, "r": 16, "t": 16, "b": 52},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.03, "x": 0},
            "hoverlabel": {"align": "left"},
            "xaxis": {**axis, "title": {"text": x_title, "standoff": 10}},
            "yaxis": {**axis, "title": {"text": y_title}},
        }
    )


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, ... around the range, or powers of ten alone where that would be crowded.

    Written out in full, because plotly labels the steps between powers of ten with their first digit only.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps]


def _finite_rows(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    return rows[np.isfinite(rows[metric].astype(float))]


def label(text: Any) -> str:
    """Return text as plotly shows it literally; unescaped, it would read tags in it."""
    return html.escape(str(text), quote=False)


def _wrapped(variant: str) -> str:
    """Break a variant of several axes into lines, so that its label fits beside a narrow plot."""
    return "<br>".join(label(part) for part in str(variant).split(", "))
