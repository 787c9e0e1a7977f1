"""Turn the tables of a study into what its report shows: tables of cells, and figures.

Pure. A cell holds text and the value to sort by; escaping is left to the template.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from launcher import plots
from launcher.answer import NOT_MEASURED, interval, percent, points
from launcher.noise import NoiseFloor, equal_runs
from launcher.stats import (
    final_utterances,
    finite,
    first_runs,
    group_table,
    summary_by_variant,
    with_columns,
)

NUM_WORST = 20
NUM_REJECTS = 200  # the rest is in rejects.parquet; a page of 100,000 rows cannot be read


@dataclass(frozen=True)
class Cell:
    """Text to show, the value to sort by (None sorts last), and whether it is a number."""

    text: str
    value: float | str | None = None
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A captioned table; `empty` says why there are no rows."""

    id: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = "There is nothing to list."


@dataclass(frozen=True)
class Figure:
    """A plotly figure with its caption and the numbers behind it as a link."""

    id: str
    caption: str
    spec: str
    csv: str
    file: str


def number(value: Any, pattern: str = "{:.3g}", factor: float = 1.0) -> Cell:
    """Return a cell for a number; missing and infinite values show as a dash and sort last."""
    shown = float(value) * factor if value is not None and pd.notna(value) else np.nan
    if not np.isfinite(shown):
        return Cell(NOT_MEASURED, None, True)
    return Cell(pattern.format(shown), shown, True)


def rate(value: Any) -> Cell:
    """Return a cell for a fraction, shown as per cent with one decimal."""
    return number(value, "{:.1f} %", 100.0)


def text(value: Any) -> Cell:
    """Return a cell for text; what is missing shows as a dash."""
    if value is None or (not isinstance(value, (list, dict)) and pd.isna(value)):
        return Cell(NOT_MEASURED)
    return Cell(str(value), str(value))


def whole(value: Any) -> Cell:
    """Return a cell for a count."""
    return number(value, "{:,.0f}")


def main_table(
    results: pd.DataFrame, paired: pd.DataFrame, baseline: str | None, noise: NoiseFloor | None = None
) -> Table:
    """Give one row per variant: error rates over its seeds and the paired difference to the baseline.

    A difference that is no larger than between equal runs says so.
    """
    metrics = ("wer", "cer", "nll_per_label", "clip_fraction", "grad_norm")
    wer, *others = (summary_by_variant(results, metric).set_index("variant") for metric in metrics)
    cer, nll, clipped, norm = (summary["mean"] for summary in others)
    differences = paired.set_index("variant")
    rows = []
    for name, row in wer.iterrows():
        spread = f" [{row['min'] * 100:.1f}\N{EN DASH}{row['max'] * 100:.1f}]" if row["n_values"] > 1 else ""
        difference = Cell("baseline", 0.0, True) if name == baseline else _difference(differences, name, noise)
        rows.append(
            (
                text(name),
                Cell(f"{row['n_done']:.0f} of {row['n_requested']:.0f}", row["n_done"], True),
                Cell(percent(row["mean"]) + spread, rate(row["mean"]).value, True),
                difference,
                rate(cer[name]),
                number(nll[name], "{:.2f}"),
                rate(clipped[name]),
                number(norm[name], "{:.2f}"),
            )
        )
    head = (
        "variant", "seeds done", "mean WER [range]", "difference to baseline, points [95 % interval]",
        "CER", "NLL per label (nats)", "clipped updates", "gradient norm",
    )  # fmt: skip
    caption = "Every variant, over its finished seeds"
    return Table("main", caption, head, tuple(rows), "No trial was requested.")


def _difference(paired: pd.DataFrame, variant: Any, noise: NoiseFloor | None) -> Cell:
    row = paired.loc[variant]
    if not np.isfinite(row["difference"]):
        return Cell(NOT_MEASURED, None, True)
    mark = ", within the noise floor" if noise is not None and noise.hides(row["difference"]) else ""
    return Cell(f"{points(row['difference'])} {interval(row['low'], row['high'])}{mark}", row["difference"], True)


def noise_table(results: pd.DataFrame, noise: NoiseFloor) -> Table:
    """List the runs of one cell with one seed, with all digits that say whether they are equal."""
    rows = tuple(
        (
            text(row["trial_id"]), text(row["status"]), number(row["wer"], "{:.6f} %", 100.0),
            number(row["cer"], "{:.6f} %", 100.0), number(row["nll_per_label"], "{:.9f}"),
        )
        for row in equal_runs(results).to_dict("records")
    )  # fmt: skip
    head = ("trial", "status", "WER", "CER", "NLL per label (nats)")
    return Table("noise", f"Runs of {noise.variant}, seed {noise.seed}, which differ in nothing", head, rows)


def group_section(
    results: pd.DataFrame, utterances: pd.DataFrame, column: str
) -> tuple[Table, Figure | None, str | None]:
    """Give the error rates per class of one grouping column: table, figure, and why there is none."""
    if column not in utterances.columns:
        absent = f"The utterance table has no column {column!r}."
        note = absent if len(utterances) else "No utterance was scored yet."
        return Table(_slug("group", column), column, (), (), note), None, note
    cells = group_table(utterances, results, column)
    rows = tuple(
        (
            text(row.variant), text(row.value), rate(row.wer), rate(row.wer_sd), rate(row.cer),
            whole(row.n_seeds), whole(row.n_utterances), whole(row.reference_words),
        )
        for row in cells.itertuples()
    )  # fmt: skip
    head = ("variant", column, "WER", "sd over seeds", "CER", "seeds", "utterances", "reference words")
    empty = "No finished trial has scored utterances."
    table = Table(_slug("group", column), f"Error rates by {column}", head, rows, empty)
    if cells["wer"].notna().sum() == 0:
        return table, None, empty if cells.empty else "No class has reference words, so no rate is defined."
    note = f"There is one class only, {cells['value'].iloc[0]!r}." if cells["value"].nunique() == 1 else None
    drawn = plots.group_bars(cells, list(results["variant"].unique()))
    caption = f"WER by {column}. Bars are means over seeds; lines are ± one standard deviation."
    file = _slug("wer_by", column) + ".csv"
    return table, figure(_slug("figure", column), caption, drawn, cells, file), note


def strip_figure(results: pd.DataFrame) -> Figure | None:
    """Show the WER of every seed; None when no finished trial has one."""
    results = first_runs(results)
    done = results[results["status"] == "done"]
    if finite(done["wer"]).empty:
        return None
    caption = "Every finished seed is a point; the bar is their mean."
    data = with_columns(done, ["seed"])[["variant", "seed", "trial_id", "wer"]]
    return figure("seed-strip", caption, plots.seed_strip(results, "wer"), data, "wer_by_seed.csv")


def curve_figures(history: pd.DataFrame, results: pd.DataFrame) -> list[Figure]:
    """Show what was logged over updates, one figure per metric that has values."""
    figures = []
    for metric in ("eval_wer", "eval_nll_per_label", "nll_per_label", "grad_norm"):
        data = plots.curve_table(history, results, metric)
        if len(data):
            caption = plots.METRICS[metric][0] + " over updates"
            drawn = plots.learning_curves(history, results, metric)
            figures.append(figure(f"curve-{metric}", caption, drawn, data, f"{metric}_over_updates.csv"))
    return figures


def trials_table(results: pd.DataFrame) -> Table:
    """List every requested trial, whatever became of it."""
    names = ["updates", "seconds", "padding_fraction", "audio_seconds_per_second", "attempts", "error"]
    rows = tuple(
        (
            text(row["trial_id"]), text(row["status"]), rate(row["wer"]), whole(row["updates"]),
            number(row["seconds"], "{:,.1f}"), rate(row["padding_fraction"]),
            number(row["audio_seconds_per_second"], "{:,.1f}"), whole(row["attempts"]), text(row["error"]),
        )
        for row in with_columns(results, names).to_dict("records")
    )  # fmt: skip
    head = ("trial", "status", "WER", "updates", "seconds", "padding", "audio s / s", "attempts", "error")
    return Table("trials", "Every requested trial", head, rows, "No trial was requested.")


def worst_table(results: pd.DataFrame, utterances: pd.DataFrame, best: str | None, groups: Iterable[str]) -> Table:
    """List the utterances with most word errors in the best variant, each once, from its worst seed."""
    groups = [name for name in groups if name in utterances.columns]
    columns = list(dict.fromkeys(["utt_id", "speaker", *groups, "reference", "hypothesis"]))
    trials = results[results["variant"] == best]
    rows = final_utterances(utterances, trials, columns) if best is not None else pd.DataFrame()
    if len(rows):
        rows = rows[rows["errors"] > 0].assign(rate=rows["errors"] / rows["words"].where(rows["words"] > 0))
        rows = rows.sort_values(["errors", "rate", "utt_id"], ascending=[False, False, True])
        rows = rows.drop_duplicates("utt_id").head(NUM_WORST)
    cells = tuple(
        (
            Cell(f"{row['errors']:.0f} of {row['words']:.0f}", row["errors"], True),
            _said(row["reference"]),
            _said(row["hypothesis"]),
            *(text(row[name]) for name in ("speaker", *groups, "utt_id")),
        )
        for row in rows.to_dict("records")
    )
    head = ("errors of words", "reference", "hypothesis", "speaker", *groups, "utterance")
    caption = f"The {len(cells)} utterances with most word errors in {best}, each from its worst seed"
    return Table("worst", caption, head, cells, "No finished trial has an utterance with errors.")


def _said(words: Any) -> Cell:
    """Return a cell for a transcript; an empty one is said to be empty rather than left blank."""
    return Cell("(nothing)" if pd.isna(words) or not str(words).strip() else str(words))


def rejects_table(rejects: pd.DataFrame) -> Table:
    """List what could not be used, with the reason."""
    names = [name for name in ("utt_id", "reason", "detail", "split", "group") if name in rejects.columns]
    shown = rejects.head(NUM_REJECTS)
    rows = tuple(tuple(text(value) for value in row) for row in shown[names].itertuples(index=False))
    more = f"; the first {len(rows)}, all are in rejects.parquet" if len(rejects) > len(rows) else ""
    head = tuple("utterance" if name == "utt_id" else name for name in names)
    return Table("rejects", f"{len(rejects):,} utterances could not be used{more}", head, rows,
                 "Every utterance of the data could be used.")  # fmt: skip


def _slug(*parts: str) -> str:
    """Return a name that is safe as an element id and as a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(parts))


def counts_table(data: dict[str, Any]) -> Table:
    """List how many utterances and seconds each split and group has."""
    counts: Sequence[dict[str, Any]] = data.get("counts") or []
    names = list(dict.fromkeys(name for row in counts for name in row))
    rows = tuple(tuple(_count_cell(name, row.get(name)) for name in names) for row in counts)
    return Table("counts", "Utterances by split and group", tuple(names), rows, "Counts were not recorded.")


def _count_cell(name: str, value: Any) -> Cell:
    if name == "utterances":
        return whole(value)
    return number(value, "{:,.1f}") if name == "seconds" else text(value)


def figure(id: str, caption: str, drawn: go.Figure, data: pd.DataFrame, file: str) -> Figure:
    """Pack a figure for the template: its specification as JSON and its numbers as a CSV link."""
    spec = str(drawn.to_json()).replace("<", "\\u003c")  # so that no text can end the script element
    csv = base64.b64encode(data.to_csv(index=False).encode()).decode()
    return Figure(id, caption, spec, f"data:text/csv;charset=utf-8;base64,{csv}", file)
