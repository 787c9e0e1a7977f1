"""Turn the analysis of losses into tables to show: on a page or on a terminal. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from launcher.answer import NOT_MEASURED
from launcher.loss_stats import Analysis
from launcher.sections import Cell, Table, number, rate, text, whole


def tables(analysis: Analysis, prefix: str, *, lead: str | None = None, exact: bool = False) -> list[Table]:
    """Return the tables of an analysis.

    Args:
        analysis: what losses show.
        prefix: begins the ids of the tables; unique on a page.
        lead: a column of all tables that comes first, such as the variant.
        exact: whether means and Pearson's r have eight decimals, to be compared with what another program printed.
    """
    decimals = 8 if exact else 2
    made = (
        _groups(analysis.groups, decimals),
        _pairs(analysis.pairs),
        _correlations(analysis.correlations, 8 if exact else 3),
        _regression(analysis.regression),
        _shares(analysis.shares, lead),
    )
    frames = (
        analysis.groups,
        analysis.pairs,
        analysis.correlations,
        analysis.regression,
        _per_group(analysis.shares, lead),
    )
    found = []
    for (id, caption, head, rows, empty), frame in zip(made, frames, strict=True):
        if lead is not None and len(rows):
            head, rows = (lead, *head), [(text(name), *row) for name, row in zip(frame[lead], rows, strict=True)]
        found.append(Table(f"{prefix}-{id}", caption, head, tuple(rows), empty))
    return found


Made = tuple[str, str, tuple[str, ...], list[tuple[Cell, ...]], str]


def _groups(frame: pd.DataFrame, decimals: int) -> Made:
    speakers = "speakers" in frame.columns
    rows = [
        (
            text(row["group"]), whole(row["utterances"]), *((whole(row["speakers"]),) if speakers else ()),
            _estimate(row["mean"], row["low"], row["high"], f"{{:,.{decimals}f}}", "{:,.2f}"),
            number(row["median"], "{:,.2f}"), rate(row["utterance_share"]), rate(row["label_share"]),
            rate(row["loss_share"]), number(row["loss_per_label"], "{:.3f}"),
        )
        for row in frame.to_dict("records")
    ]  # fmt: skip
    head = ("group", "utterances", *(("speakers",) if speakers else ()), "mean loss [95 %]", "median",
            "of utterances", "of labels", "of loss", "loss per label")  # fmt: skip
    return "groups", "Losses by group", head, rows, "There is no loss."


def _pairs(frame: pd.DataFrame) -> Made:
    rows = [
        (
            text(f"{row['first']}\N{NO-BREAK SPACE}\N{MINUS SIGN}\N{NO-BREAK SPACE}{row['second']}"),
            _estimate(row["difference"], row["low"], row["high"], "{:+,.2f}", "{:+,.2f}"),
            _signed(row["welch_t"], 2), _p(row["welch_p_holm"]), _p(row["mann_whitney_p_holm"]),
            _signed(row["cliffs_delta"], 3), _signed(row["hedges_g"], 3),
        )
        for row in frame.to_dict("records")
    ]  # fmt: skip
    head = ("groups", "difference of means [95 %]", "Welch t", "p", "Mann-Whitney p", "Cliff's delta", "Hedges' g")
    caption = "Differences between groups (p-values by Holm's method over this table)"
    return "pairs", caption, head, rows, "There is one group only, so nothing to compare."


def _correlations(frame: pd.DataFrame, decimals: int) -> Made:
    rows = [
        (
            text(row["within"]), whole(row["utterances"]),
            *(
                _estimate(row[kind], row[f"{kind}_low"], row[f"{kind}_high"], f"{{:+.{places}f}}", "{:+.2f}")
                for kind, places in (("pearson", decimals), ("spearman", 3))
            ),
        )
        for row in frame.to_dict("records")
    ]  # fmt: skip
    head = ("within", "utterances", "Pearson r", "Spearman rho")
    intervals = " [95 %]" if frame["pearson_low"].notna().any() else ""
    return "correlations", f"Loss with length{intervals}", head, rows, "There is no loss."


def _regression(frame: pd.DataFrame) -> Made:
    rows = [
        (
            text(row["term"]), _estimate(row["coefficient"], row["low"], row["high"], "{:+,.3f}", "{:+,.3f}"),
            number(row["standard_error"], "{:.3f}"), _signed(row["t"], 2), _p(row["p"]),
        )
        for row in frame.to_dict("records")
    ]  # fmt: skip
    head = ("term", "coefficient [95 %]", "standard error", "t", "p")
    errors = f"; errors: {', '.join(frame['errors'].unique())}" if len(frame) else ""
    caption = f"Loss by length and group together (least squares{errors})"
    return "regression", caption, head, rows, "There is no regression; the notes say why."


def _shares(frame: pd.DataFrame, lead: str | None) -> Made:
    """One row per group, one column per reduction: the table is read across."""
    keys = [*([lead] if lead else []), "group"]
    by_group = {key: rows for key, rows in frame.groupby(keys, sort=False, observed=True)}
    rows = [
        (
            text(row["group"]), rate(row["utterance_share"]),
            *(
                Cell(f"{share:.1%}".replace("%", " %") + f" (\N{MULTIPLICATION SIGN}{factor:.2f})", share, True)
                for share, factor in by_group[tuple(row[key] for key in keys)][["loss_share", "factor"]].to_numpy()
            ),
        )
        for row in _per_group(frame, lead).to_dict("records")
    ]  # fmt: skip
    reductions = tuple(str(name) for name in frame["reduction"].unique())
    caption = "Who would have the loss under each reduction that weighs by length alone (share; \N{MULTIPLICATION SIGN}: share of loss / share of utterances)"
    return "shares", caption, ("group", "of utterances", *reductions), rows, "There is no loss."


def _per_group(frame: pd.DataFrame, lead: str | None) -> pd.DataFrame:
    return frame.drop_duplicates([*([lead] if lead else []), "group"])


def _estimate(value: Any, low: Any, high: Any, pattern: str, bound: str) -> Cell:
    """Return a cell for a number with its interval, where it has one."""
    cell = number(value, pattern)
    if cell.value is None or not np.isfinite([low, high]).all():
        return Cell(_minus(cell.text), cell.value, True)
    return Cell(_minus(f"{cell.text} [{bound.format(low)}, {bound.format(high)}]"), cell.value, True)


def _signed(value: Any, decimals: int) -> Cell:
    """Return a cell for a number that always has its sign."""
    cell = number(value, f"{{:+.{decimals}f}}")
    return Cell(_minus(cell.text), cell.value, True)


def _p(value: Any) -> Cell:
    """Return a cell for a p-value."""
    cell = number(value, "{:.2g}" if value < 0.001 else "{:.3f}")
    return Cell(cell.text if cell.text != "0" else "< 1e-300", cell.value, True) if cell.value is not None else cell


def _minus(words: str) -> str:
    return words if words == NOT_MEASURED else words.replace("-", "\N{MINUS SIGN}")
