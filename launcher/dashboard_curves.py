"""What the dashboard draws while trials train: few points per trial, read again only where a file has changed.

Figures are plain data for plotly.js, because checking hundreds of traces in plotly's Python objects takes seconds and
happens again whenever a trial moves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from launcher import plots, reading, results

METRICS = ("eval_wer", "eval_nll_per_label", "nll_per_label", "loss")
MAX_POINTS = 6000
"""Of all trials in one figure: 500 trials drawn from 12 points each still show where they go."""
_MOST, _FEWEST = 300, 12
_MANY_TRIALS, _MANY_VARIANTS = 60, 12
_CROWDED = 1000  # powers of ten alone are labelled beyond
_LOG_SPAN = 20  # as in the report: a curve that falls by more than this factor is drawn on a logarithmic axis

Curve = tuple[np.ndarray, np.ndarray]
"""Updates and values of one trial, both [points]."""


@dataclass(frozen=True)
class Subject:
    """A trial as its curves are drawn."""

    trial_id: str
    variant: str
    done: bool


@dataclass
class Histories:
    """The history of each trial of a study, thinned; files that have not changed are not read again.

    Attributes:
        folder: of the study.
        curves: by trial, then by metric.
        version: changes whenever a curve does.
        unreadable: what is wrong with the file of a trial, by trial.
    """

    folder: Path
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    version: str = ""
    unreadable: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def read(self, trial_ids: Iterable[str]) -> None:
        """Read what is new; a file that is gone (its trial is run anew) takes its curve along."""
        found: dict[str, tuple[int, int]] = {}
        for name in trial_ids:
            path = results.trial_folder(self.folder, name) / "history.parquet"
            try:
                state = path.stat()
                signature = state.st_mtime_ns, state.st_size
                if self._seen.get(name) != signature:
                    self.curves[name] = read_history(path)
            except FileNotFoundError:
                self.curves.pop(name, None)
                continue
            except (OSError, ValueError) as error:
                self.curves.pop(name, None)
                self.unreadable[name] = f"{path} cannot be read ({error})"
            else:
                self.unreadable.pop(name, None)
            found[name] = signature
        if found != self._seen:
            self._seen = found
            self.version = hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16]


def read_history(path: Path) -> dict[str, Curve]:
    """Read the curves of one trial, each of at most 300 points; metrics that it has no finite value of are left out."""
    names = [name for name in METRICS if name in reading.schema(path).names]
    table = reading.table(path, columns=["update", *names])
    update = table["update"].to_numpy().astype(float)
    curves: dict[str, Curve] = {}
    for name in names:
        value = table[name].to_numpy().astype(float)
        known = np.isfinite(value)
        if known.any():
            curves[name] = thinned(update[known], value[known], _MOST)
    return curves


def thinned(update: np.ndarray, value: np.ndarray, most: int) -> Curve:
    """Average neighbouring points until there are at most `most`."""
    size = math.ceil(len(update) / most)
    if size <= 1:
        return update, value
    starts = np.arange(0, len(update), size)
    count = np.diff(np.append(starts, len(update)))
    return np.add.reduceat(update, starts) / count, np.add.reduceat(value, starts) / count


def figures(subjects: Sequence[Subject], curves: Mapping[str, Mapping[str, Curve]]) -> list[dict[str, Any]]:
    """Draw every metric that has values.

    Args:
        subjects: the trials, in the order of the study.
        curves: what `Histories` has read.

    Returns:
        id, title, caption, and data and layout as plotly.js takes them.
    """
    return [drawn for metric in METRICS if (drawn := _figure(metric, subjects, curves)) is not None]


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Average curves over the updates of the longest one, each within its own range."""
    grid = max((curve[0] for curve in curves), key=lambda update: (update[-1], len(update)))
    values_CG = np.stack([np.interp(grid, *curve, left=np.nan, right=np.nan) for curve in curves])
    known_G = np.isfinite(values_CG).any(axis=0)
    return grid[known_G], np.nanmean(values_CG[:, known_G], axis=0)


def _figure(
    metric: str, subjects: Sequence[Subject], curves: Mapping[str, Mapping[str, Curve]]
) -> dict[str, Any] | None:  # fmt: skip
    drawn = [subject for subject in subjects if metric in curves.get(subject.trial_id, {})]
    if not drawn:
        return None
    title, factor = plots.METRICS[metric]
    most = max(_FEWEST, min(_MOST, MAX_POINTS // len(drawn)))
    points: dict[str, Curve] = {}
    for subject in drawn:
        update, value = curves[subject.trial_id][metric]
        points[subject.trial_id] = thinned(update, value * factor, most)
    traces: list[dict[str, Any]] = []
    for variant, look in plots.style(list(dict.fromkeys(subject.variant for subject in subjects))).items():
        own = [subject for subject in drawn if subject.variant == variant]
        if own:
            traces += _traces(
                variant, own, points, look, markers=metric.startswith("eval_"), many=len(drawn) > _MANY_TRIALS
            )
    named = len({subject.variant for subject in drawn})
    caption = f"{title} over updates, {len(drawn)} trials" + (", thinned" if most < _MOST else "")
    return {
        "id": f"curve-{metric}", "title": title, "caption": caption, "data": traces,
        "layout": _layout(title, list(points.values()), legend=named <= _MANY_VARIANTS),
    }  # fmt: skip


def _traces(
    variant: str, own: Sequence[Subject], points: Mapping[str, Curve], look: Mapping[str, str], *, markers: bool, many: bool
) -> list[dict[str, Any]]:  # fmt: skip
    """Draw a variant: a thin line per trial (dotted until it is done) and a thick one for their mean.

    The mean is over the trials that are done, so that one which stopped early does not bend it; while none is, over all.
    Of many trials the thin lines of a variant are one trace with gaps, which a browser draws far sooner.
    """
    traces = []
    for dash in ("solid", "dot"):
        group = [subject for subject in own if subject.done == (dash == "solid")]
        parts = [group] if many and group else [[subject] for subject in group]
        for part in parts if len(own) > 1 else []:
            thin = _line(_joined([points[subject.trial_id] for subject in part]), look, dash, width=1.2)
            name = {"hoverinfo": "skip"} if many else {"name": plots.label(part[0].trial_id)}
            traces.append({**thin, **name, "opacity": 0.4, "showlegend": False, "mode": "lines"})
    done = [subject for subject in own if subject.done]
    mean = mean_curve([points[subject.trial_id] for subject in done or own])
    thick = _line(mean, look, "solid", width=3)
    mode = "lines+markers" if markers or len(mean[0]) == 1 else "lines"
    marker = {"symbol": look["symbol"], "size": 7, "color": look["color"]}
    traces.append({**thick, "name": plots.label(variant), "mode": mode, "marker": marker})
    return traces


def _line(curve: Curve, look: Mapping[str, str], dash: str, *, width: float) -> dict[str, Any]:
    return {
        "type": "scatter", "x": _numbers(curve[0]), "y": _numbers(curve[1]), "legendgroup": look["color"] + look["symbol"],
        "line": {"color": look["color"], "width": width, "dash": dash},
        "hovertemplate": "%{fullData.name}<br>update %{x:.0f}: %{y:.3g}<extra></extra>",
    }  # fmt: skip


def _joined(curves: Sequence[Curve]) -> Curve:
    """Put curves one after another with a gap between them."""
    if len(curves) == 1:
        return curves[0]
    gap = np.array([np.nan])
    sides = ([part for curve in curves for part in (curve[side], gap)] for side in (0, 1))
    update, value = (np.concatenate(parts) for parts in sides)
    return update, value


def _numbers(values: np.ndarray) -> list[float | None]:
    """Five digits are more than a screen shows."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]


def _layout(title: str, points: Sequence[Curve], *, legend: bool) -> dict[str, Any]:
    short = title.partition(";")[0]
    short += ")" if short.count("(") > short.count(")") else ""
    layout = plots.empty_figure("update", short, height=340).to_plotly_json()["layout"]
    layout.pop("template", None)
    axis: dict[str, Any] = dict(layout["yaxis"])
    low, high = min(float(value.min()) for _, value in points), max(float(value.max()) for _, value in points)
    if low > 0 and high / low > _LOG_SPAN:
        steps = (1, 2, 5) if high / low < _CROWDED else (1,)
        ticks = [step * 10.0**power for power in range(-9, 10) for step in steps]
        ticks = [tick for tick in ticks if low / 2 <= tick <= high * 2]
        axis |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    start = {**layout["xaxis"], "rangemode": "tozero"}
    return {**layout, "xaxis": start, "yaxis": axis, "showlegend": legend, "uirevision": title}
