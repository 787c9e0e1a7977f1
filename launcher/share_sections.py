"""The part of a report that says which utterances the loss listens to: words, figures, tables. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from launcher import sections, share_plots
from launcher.answer import count
from launcher.loss_files import MOST_GROUPS, Losses
from launcher.loss_sections import tables as loss_tables
from launcher.loss_stats import analyse, stack
from launcher.sections import Cell, Figure, Table, number, rate, text
from launcher.share_stats import CELL, PHASES, baseline_cell, cells, ordered_columns, sentence, shares_by_cell
from launcher.speakers import told_apart
from launcher.stats import named, with_columns
from launcher.utterance_files import UtteranceFiles, is_empty, known_columns, parts

_CANCELLED = " \N{DAGGER}"
MOST_DRAWN = 6  # cells; each is a figure per column and phase, and a page of fifty cannot be read
NO_SHARES = "No audit was made in this study, so it is not known which utterances each reduction listens to."


@dataclass(frozen=True)
class Column:
    """One audited column: its name, a figure per phase with its heading, and the table of both."""

    name: str
    figures: tuple[tuple[str, Figure], ...]
    table: Table


@dataclass(frozen=True)
class LossSection:
    """The losses of utterances by group: what they are, the tables, and what they do not show."""

    title: str
    lines: tuple[str, ...]
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class AuditSection:
    """What the audits found; without any, `sentence` says so. `updates`: of what size those are at which it holds."""

    sentence: str
    columns: tuple[Column, ...]
    exact: Table | None
    losses: LossSection
    updates: str = ""


def audit_section(
    shares: pd.DataFrame, exact: pd.DataFrame, losses: pd.DataFrame | UtteranceFiles, results: pd.DataFrame,
    groups: Sequence[str], *, axes: Sequence[str] = (), baseline: str | None = None,
) -> AuditSection:  # fmt: skip
    """Compose the section; where the study varies more than reduction and seed, each cell of that for itself.

    Args:
        shares: rows of all trials; may be empty.
        exact: rows of all trials; may be empty.
        losses: losses of utterances of all trials, with trial_id and phase; may be empty.
        results: the trials.
        groups: the columns that the study compares.
        axes: names of the axes of the study.
        baseline: variant whose cell the sentence speaks of; else it speaks of the first.
    """
    loss_section = losses_by_group(losses, results, groups)
    by_cell = shares_by_cell(shares, results, axes, baseline)
    if not by_cell:
        return AuditSection(NO_SHARES, (), None, loss_section)
    cell_of = cells(results, axes)
    cell, means = next(iter(by_cell.items()))
    columns = ordered_columns(pd.concat(by_cell.values()), list(groups))
    whose = "the baseline's among" if cell == baseline_cell(results, cell_of, baseline) else "the first of"
    of_cell = f"{cell} ({whose} {count(len(by_cell), 'audited cell')}): " if cell else ""
    return AuditSection(
        of_cell + sentence(means, columns[0]),
        tuple(_column(by_cell, name) for name in columns),
        _exact_table(exact, cell_of) if len(exact) else None,
        loss_section,
        _updates(shares),
    )


def _updates(shares: pd.DataFrame) -> str:
    """Say at which sizes of an update the shares hold; tables of earlier versions do not tell."""
    sizes = pd.to_numeric(with_columns(shares, ["update_size"])["update_size"]).dropna().astype(int)
    listed = " or ".join(f"{size:,}" for size in sorted(set(sizes)))
    return (
        f"Shares hold for updates of {listed} utterances, on average over whom training may put into one."
        if listed
        else ""
    )


def _column(by_cell: Mapping[str, pd.DataFrame], name: str) -> Column:
    figures = []
    for rank, (cell, means) in enumerate(list(by_cell.items())[:MOST_DRAWN]):
        rows = means[means["column"] == name]
        for phase in PHASES:
            part = rows[rows["phase"] == phase]
            if len(part):
                when = f"{cell}: {PHASES[phase]}" if cell else PHASES[phase]
                slug = f"{name}-{phase}-{rank + 1}" if cell else f"{name}-{phase}"
                figures.append((when, _figure(part, name, phase, when, slug)))
    table = pd.concat(by_cell.values())
    return Column(name, tuple(figures), _table(table[table["column"] == name], name, len(by_cell)))


def _figure(means: pd.DataFrame, column: str, phase: str, when: str, slug: str) -> Figure:
    marked = means["reduction"] + np.where(means["cancels"], _CANCELLED, "")
    own = list(marked[means["own"]].unique())
    bars = pd.DataFrame({
        "reduction": marked, "class": means["class"],
        "share": means["gradient_share"].mask(means["cancels"], means["gradient_norm_share"]),
    })  # fmt: skip
    reference = means.groupby("class", sort=False)["utterance_share"].mean()
    drawn = share_plots.share_bars(bars, reference, own)
    caption = (
        f"{when}: who has the gradient at the output layer, by {column}. The bar at the top is the share of utterances; a class "
        "that is wider below it is listened to more than its number. Shares of the gradient are signed and add up to 100 %: a class "
        "that pulls against the rest is left of 0, and the others then pass 100 %. Bold: a reduction of this study"
        f"{', on the models that it trained; any other on all of them' if phase == 'final' else ''}."
    )
    if means["cancels"].any():
        caption += f"{_CANCELLED}: the gradients of the classes cancel, so that no share can be told; drawn are parts of their lengths."
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", slug)
    return sections.figure(f"shares-{slug}", caption, drawn, means, f"gradient_shares_{slug}.csv")


def _table(means: pd.DataFrame, column: str, num_cells: int) -> Table:
    """List every reduction and class: what it has of the utterances, and what of loss and gradient."""
    shown = share_plots.short_names(means["reduction"])
    several = CELL in means.columns
    rows = tuple(
        (
            *((text(row[CELL]),) if several else ()),
            text(shown[row["reduction"]]), text(row["class"]), text(row["phase"]), rate(row["utterance_share"]),
            _with_range(row), _factor(row["factor"]), rate(row["gradient_norm_share"]), rate(row["loss_share"]),
            rate(row["label_share"]), rate(row["second_share"]), _minus(number(row["cosine_to_rest"], "{:+.2f}")),
            sections.whole(row["models"]),
        )
        for row in means.to_dict("records")
    )  # fmt: skip
    head = (*((CELL,) if several else ()), "reduction", column, "model", "utterances", "gradient, signed [range]",
            "gradient / utterances", "lengths of gradients", "loss", "labels", "seconds", "cosine to the rest", "models")  # fmt: skip
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", column)
    caption = f"Shares by {column}, mean over {'the models of a cell' if several else 'models'}; those of the gradient are signed, those of lengths are not"
    caption += f"; the first {MOST_DRAWN} of {num_cells} cells are drawn" if num_cells > MOST_DRAWN else ""
    return Table(f"shares-table-{slug}", caption, head, rows, "Nothing was audited.")


def _with_range(row: Mapping[Any, Any]) -> Cell:
    cell = rate(row["gradient_share"])
    if cell.value is None:
        return cell
    if row["models"] > 1:
        low, high = row["gradient_low"] * 100, row["gradient_high"] * 100
        cell = Cell(f"{cell.text} [{low:.1f} to {high:.1f}]", cell.value, True)
    told = _minus(cell)
    return replace(told, text=f"cancels; median {told.text}") if row["cancels"] else told


def _factor(value: Any) -> Cell:
    return _minus(number(value, "\N{MULTIPLICATION SIGN}{:.2f}"))


def _minus(cell: Cell) -> Cell:
    return replace(cell, text=cell.text.replace("-", "\N{MINUS SIGN}"))


def _exact_table(exact: pd.DataFrame, cell_of: Mapping[str, str]) -> Table:
    """Say how well the gradient at the output layer, which all shares are made from, stands for that of all weights."""
    names = ["norm_pearson", "norm_spearman", "cosines_pearson", "largest_difference"]
    table = with_columns(exact, ["trial_id", "phase", "reduction", "column", "utterances", *names])
    table = table.assign(**{CELL: table["trial_id"].map(cell_of) if cell_of else ""})
    rows = []
    for (cell, phase), part in table.groupby([CELL, "phase"], sort=False):
        models = part.groupby("trial_id", sort=False)[names].first().astype(float)
        # Every utterance is in one class of each column, under every reduction.
        sizes = part.groupby(["trial_id", "reduction", "column"])["utterances"].sum()
        rows.append(
            (
                *((text(cell),) if cell_of else ()), text(phase), sections.whole(len(models)),
                sections.whole(sizes.max()),
                *(number(models[name].mean(), "{:.3f}") for name in names[:3]),
                number(models["largest_difference"].max(), "{:.1f} points", 100.0),
            )
        )  # fmt: skip
    head = (*((CELL,) if cell_of else ()), "model", "trials", "utterances", "norms: Pearson r", "norms: Spearman rho",
            "cosines of pairs: Pearson r", "largest difference of a signed share")  # fmt: skip
    caption = "Gradient at the output layer, which the shares are made from, beside the gradient at all trained weights"
    return Table("shares-exact", caption, head, tuple(rows), "Gradients at all weights were not measured.")


def losses_by_group(losses: pd.DataFrame | UtteranceFiles, results: pd.DataFrame, groups: Sequence[str]) -> LossSection:
    """Analyse the losses of the final models, or of the initial ones while there is no final one.

    An utterance's loss is its mean over the trials of a variant, so that it counts once however many seeds there are.
    """
    column = groups[0] if groups else "group"
    title, known = f"Losses by {column}", known_columns(losses)
    missing = [name for name in ("phase", "trial_id", "loss", "labels", "utt_id", column) if name not in known]
    if is_empty(losses) or missing:
        why = f" with {', '.join(missing)}" if not is_empty(losses) else ""
        return LossSection(title, (f"No loss of an utterance{why} was recorded.",))
    phase, splits, found = "final", set(), {}
    for phase in ("final", "initial"):
        splits, found = _by_variant(losses, phase, results, column)
        if splits is not None:
            break
    number_classes = max((len(one.frame["group"].cat.categories) for one in found.values()), default=0)
    if not found or number_classes > MOST_GROUPS:
        why = f"{column} has {number_classes} classes, too many to compare" if found else "no loss is finite"
        return LossSection(title, (f"There is nothing to show: {why}.",))
    analysis = stack(
        {name: analyse(one, correlation_intervals=False) for name, one in found.items()}, "variant", one_family=True
    )
    of = ", ".join(sorted(splits or ())) if "split" in known else "not recorded"
    lines = (f"Losses of the {phase} models in nats (split: {of}). {analysis.method}", *analysis.notes)
    return LossSection(title, lines, tuple(loss_tables(analysis, "losses", lead="variant")))


def _by_variant(
    losses: pd.DataFrame | UtteranceFiles, phase: str, results: pd.DataFrame, column: str
) -> tuple[set[str] | None, dict[str, Losses]]:
    """Return the splits of one phase, None without a row of it, and the losses of each variant, finite ones alone."""
    trials = with_columns(results, ["variant", "trial_id"])
    needed = list(dict.fromkeys(["utt_id", column, "speaker", "corpus", "loss", "labels"]))
    found, splits = {}, None
    for name, of_variant in trials.groupby("variant", sort=False)["trial_id"]:
        means, lost = None, 0
        for part in parts(losses, [*needed, "split"], set(of_variant), phase):
            if part.empty:
                continue
            splits = {*(splits or ()), *(map(str, part["split"].dropna().unique()) if "split" in part else ())}
            usable = part[np.isfinite(part["loss"].astype(float)) & np.isfinite(part["labels"].astype(float))]
            lost += len(part) - len(usable)
            means = _added(means, usable, [other for other in needed if other in usable.columns])
        if means is None or means.empty:
            continue
        means = means.reset_index()
        frame = pd.DataFrame({"group": pd.Categorical(named(means[column]), ordered=True),
                              "loss": (means["loss"] / means["times"]).astype(float),
                              "length": means["labels"].astype(float)})  # fmt: skip
        if "speaker" in means:
            frame["speaker"] = told_apart(named(means["speaker"]), named(with_columns(means, ["corpus"])["corpus"]))
        note = (f"{name}: {count(lost, 'utterance')} without a finite loss left out.",) if lost else ()
        found[str(name)] = Losses(str(name), frame.reset_index(drop=True), {"group": column}, notes=note)
    return splits, found


def _added(sums: pd.DataFrame | None, rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Add the losses of some rows to the sums so far, by utterance; of all else the first value is kept."""
    how = {"loss": "sum", "times": "sum", **{name: "first" for name in columns if name not in ("utt_id", "loss")}}
    rows = rows[list(columns)].assign(times=1)
    rows = rows if sums is None else pd.concat([sums.reset_index(), rows])
    return rows.groupby("utt_id", sort=False).agg(how)
