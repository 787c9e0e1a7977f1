"""The part of a report that compares: variants with the baseline, over seeds, and by group. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from launcher import plots
from launcher.answer import NOT_MEASURED, interval, percent, points, within_margin
from launcher.comparisons import group_comparisons, group_rates
from launcher.noise import NoiseFloor, equal_runs
from launcher.sections import Cell, Figure, Table, figure, number, probability, rate, slug, text, whole
from launcher.stats import finite, first_runs, summary_by_variant, with_columns
from launcher.tallies import Tally

MOST_CLASSES = 20  # of a group column that is compared class by class or drawn: more cannot be read
MOST_BARS = 120
_95 = "[95\N{NO-BREAK SPACE}%]"


@dataclass(frozen=True)
class GroupSection:
    """One grouping column: its rates, the differences to the baseline, a figure, and why one of these is not there."""

    name: str
    rates: Table
    differences: Table | None = None
    figure: Figure | None = None
    notes: tuple[str, ...] = ()


def main_table(results: pd.DataFrame, compared: pd.DataFrame) -> Table:
    """Give one row per variant: WER over its seeds, the paired difference to the baseline and how sure that is.

    Args:
        results: the trials, without repeats.
        compared: `launcher.comparisons.comparisons`.
    """
    others = ("cer", "nll_per_label")
    cer, nll = (summary_by_variant(results, name).set_index("variant") for name in others)
    rows = tuple(
        (
            text(row["variant"]), Cell(f"{row['n_done']:.0f} of {row['n_requested']:.0f}", row["n_done"], True),
            _mean(row), _difference(row), probability(row["p_holm"]), _relative(row),
            _of_done(rate(cer.loc[row["variant"], "mean"]), cer.loc[row["variant"]]),
            _of_done(number(nll.loc[row["variant"], "mean"], "{:.2f}"), nll.loc[row["variant"]]),
        )
        for row in compared.to_dict("records")
    )  # fmt: skip
    head = (
        "variant", "seeds done", f"mean WER {_95}", f"difference to baseline, points {_95}", "p (Holm)",
        "relative change", "CER", "NLL per label (nats)",
    )  # fmt: skip
    return Table(
        "main",
        f"Every variant, over its finished seeds{_covered(compared)}",
        head,
        rows,
        "No trial was requested.",
        exported=True,
    )


def _of_done(mean: Cell, summary: pd.Series) -> Cell:
    """Add of how many finished seeds a mean is, where not of all."""
    if mean.value is None or summary["n_values"] == summary["n_done"]:
        return mean
    return Cell(f"{mean.text} ({summary['n_values']:.0f} of {summary['n_done']:.0f})", mean.value, True)


def _covered(compared: pd.DataFrame) -> str:
    """Say what the intervals of differences generalise to, for a caption."""
    kinds = [kind for kind in compared["covers"].dropna().unique() if kind]
    if len(kinds) < 2:
        return f"; differences, their intervals and p speak of {kinds[0]}" if kinds else ""
    told = (
        f"{kind} ({', '.join(dict.fromkeys(map(str, compared.loc[compared['covers'] == kind, 'variant'])))})"
        for kind in kinds
    )
    return f"; differences, their intervals and p speak of {'; of '.join(told)}"


def _mean(row: Mapping[Any, Any]) -> Cell:
    mean = rate(row["mean_wer"])
    if mean.value is None or not np.isfinite(row["seed_low"]):
        return Cell(f"{mean.text} (one seed)", mean.value, True) if row["n_seeds"] == 1 else mean
    low, high = row["seed_low"] * 100, row["seed_high"] * 100
    return Cell(f"{percent(row['mean_wer'])} [{low:.1f}, {high:.1f}]", mean.value, True)


def _difference(row: Mapping[Any, Any]) -> Cell:
    if row["is_baseline"]:
        return Cell("baseline", 0.0, True)
    if not np.isfinite(row["difference"]):
        return Cell(NOT_MEASURED, None, True)
    marks = [", within the noise floor"] if row["within_noise"] else []
    marks += [", equivalent"] if row["equivalent"] else []
    return Cell(
        f"{points(row['difference'])} {interval(row['low'], row['high'])}{''.join(marks)}",
        row["difference"] * 100,
        True,
    )


def _relative(row: Mapping[Any, Any]) -> Cell:
    return _signed(row["relative_reduction"], "{:+.1f} %", -100.0)


def _signed(value: Any, pattern: str = "{:+.2f}", factor: float = 1.0) -> Cell:
    cell = number(value, pattern, factor)
    return Cell(cell.text.replace("-", "\N{MINUS SIGN}"), cell.value, True)


def tests_table(compared: pd.DataFrame) -> Table:
    """List what each test says of each difference."""
    rows = tuple(
        (
            text(row["variant"]), whole(row["n_paired_seeds"]), whole(row["n_speakers"]), whole(row["n_utterances"]),
            probability(row["p_holm"]), probability(row["p"]), probability(row["p_sign_flip"]), probability(row["smallest_p"]),
            probability(row["p_interval"]), probability(row["p_seeds"]),
        )
        for row in _others(compared)
    )  # fmt: skip
    head = (
        "variant", "paired seeds", "speakers", "utterances", "p (Holm)", "p", "p (speakers)", "least p possible",
        "p (interval)", "p (seeds)",
    )  # fmt: skip
    caption = f"What each test says of the difference{_covered(compared)}"
    return Table("tests", caption, head, rows, "There is no second variant to test.", exported=True)


def sizes_table(compared: pd.DataFrame) -> Table:
    """List how large each difference is, how many seeds it would take to see it, and the tests of other papers."""
    rows = tuple(
        (
            text(row["variant"]), _signed(row["effect_size"]), _equivalence(row), _seeds(row["seeds_needed"]),
            _seeds(row["seeds_needed_for_margin"]), _signed(row["mapsswe_z"]), probability(row["mapsswe_p"]),
            probability(row["mcnemar_p"]),
        )
        for row in _others(compared)
    )  # fmt: skip
    head = (
        "variant", "effect size", "equivalence", "seeds for this difference", "seeds for the margin", "MAPSSWE z",
        "MAPSSWE p", "McNemar p",
    )  # fmt: skip
    caption = "How large the difference is, and the tests of other papers"
    return Table("sizes", caption, head, rows, "There is no second variant to test.", exported=True)


def _others(compared: pd.DataFrame) -> list[dict[Any, Any]]:
    return compared[~compared["is_baseline"].astype(bool)].to_dict("records")


def _seeds(value: Any) -> Cell:
    cell = whole(value)
    return Cell("over 10,000", cell.value, True) if cell.value is not None and float(cell.value) > 10_000 else cell


def _equivalence(row: Mapping[Any, Any]) -> Cell:
    cell = probability(row["tost_p"])
    within = f"within {row['margin'] * 100:g} points" if np.isfinite(row["margin"]) else ""
    if cell.value is None:
        return cell
    sign = "" if cell.text.startswith("<") else "= "
    return Cell(f"{within_margin(row, within)} (p {sign}{cell.text})", cell.value, True)


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


def strip_figure(results: pd.DataFrame) -> Figure | None:
    """Show the WER of every seed; None when no finished trial has one."""
    results = first_runs(results)
    done = results[results["status"] == "done"]
    if finite(done["wer"]).empty:
        return None
    caption = "Every finished seed is a point; the bar is their mean."
    data = with_columns(done, ["seed"])[["variant", "seed", "trial_id", "wer"]]
    return figure("seed-strip", caption, plots.seed_strip(results, "wer"), data, "wer_by_seed.csv")


def group_section(
    results: pd.DataFrame, tallied: Tally, column: str, known: Sequence[str], baseline: str | None, *,
    noise: Mapping[str, float] | None = None,
) -> GroupSection:  # fmt: skip
    """Give the error rates in each class of one grouping column, and what changed in it.

    Args:
        results: the trials, without repeats.
        tallied: their scores; has the column where the utterance table has it.
        column: the column.
        known: columns of the utterance table.
        baseline: variant to compare with.
        noise: how far equal runs differ in each class, if that was measured.
    """
    if column not in known:
        absent = f"The utterance table has no column {column!r}."
        note = absent if known else "No utterance was scored yet."
        return GroupSection(column, Table(slug("group", column), column, (), (), note))
    empty = "No finished trial has scored utterances."
    if column not in tallied.utterances.columns:
        return GroupSection(column, Table(slug("group", column), column, (), (), empty))
    cells = group_rates(results, tallied, column)
    rows = tuple(
        (
            text(row.variant), text(row.value), rate(row.wer), rate(row.wer_sd), rate(row.cer),
            whole(row.n_seeds), whole(row.n_utterances), whole(row.reference_words),
        )
        for row in cells.itertuples()
    )  # fmt: skip
    head = ("variant", column, "WER", "sd over seeds", "CER", "seeds", "utterances", "reference words")
    table = Table(slug("group", column), f"Error rates by {column}", head, rows, empty, exported=True)
    if cells["wer"].notna().sum() == 0:
        note = (empty if cells.empty else "No class has reference words, so no rate is defined.",)
        return GroupSection(column, table, notes=note)
    return _compared_section(results, tallied, column, baseline, noise, cells, table)


def _compared_section(
    results: pd.DataFrame, tallied: Tally, column: str, baseline: str | None, noise: Mapping[str, float] | None,
    cells: pd.DataFrame, table: Table,
) -> GroupSection:  # fmt: skip
    classes, variants = cells["value"].nunique(), results["variant"].nunique()
    notes = []
    if classes == 1:
        notes.append(f"There is one class only, {cells['value'].iloc[0]!r}.")
    without = cells.loc[cells["wer"].isna(), "value"].unique()
    if len(without):
        notes.append(f"No reference words, and so no rate: {', '.join(map(str, without))}.")
    drawn = None
    if classes * variants <= MOST_BARS:
        bars = plots.group_bars(cells, list(results["variant"].unique()))
        caption = f"WER by {column}. Bars are means over seeds; lines are ± one standard deviation, cut at 0."
        drawn = figure(slug("figure", column), caption, bars, cells, slug("wer_by", column) + ".csv")
    else:
        notes.append(f"{classes} classes of {variants} variants are too many bars to draw; the table has them all.")
    if classes > MOST_CLASSES:
        notes.append(f"{classes} classes are too many to compare one by one (the most is {MOST_CLASSES}).")
        return GroupSection(column, table, None, drawn, tuple(notes))
    found = group_comparisons(results, tallied, column, baseline, noise=noise, rounds=2000)
    return GroupSection(column, table, _differences(found, column) if len(found) else None, drawn, tuple(notes))


def _differences(found: pd.DataFrame, column: str) -> Table:
    measured = bool(found["noise_floor"].notna().any())
    rows = tuple(
        (
            text(row["variant"]), text(row["value"]), rate(row["wer"]), rate(row["baseline_wer"]), _in_class(row),
            probability(row["p"]), probability(row["p_bh"]), whole(row["n_speakers"]), whole(row["n_utterances"]),
            *([number(row["noise_floor"], "{:.2f}", 100.0)] if measured else []),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    head = (
        "variant", column, "WER", "WER of the baseline", f"difference, points {_95}", "p",
        "p (Benjamini-Hochberg)", "speakers", "utterances", *(["noise floor, points"] if measured else []),
    )  # fmt: skip
    caption = f"Differences to the baseline by {column}: to explore, not to conclude{_covered(found)}"
    return Table(slug("group-differences", column), caption, head, rows, exported=True)


def _in_class(row: Mapping[Any, Any]) -> Cell:
    if not np.isfinite(row["difference"]):
        return Cell(NOT_MEASURED, None, True)
    mark = ", within the noise floor" if row["within_noise"] else ""
    text = f"{points(row['difference'])} {interval(row['low'], row['high'])}{mark}"
    return Cell(text, row["difference"] * 100, True)
