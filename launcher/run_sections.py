"""The part of a report that says how the trials ran: curves, gradients, failures, cost, what they were made with. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from launcher import plots
from launcher.answer import count
from launcher.sections import Cell, Figure, Table, figure, number, rate, text, whole
from launcher.stats import finite, summary_by_variant, with_columns

LEARNING = ("eval_wer", "eval_nll_per_label", "nll_per_label")
GRADIENTS = ("grad_norm", "clip_fraction", "update_ratio")
_TROUBLE = ("failed", "pruned", "interrupted")


@dataclass(frozen=True)
class RunSection:
    """Sentences, then tables and figures."""

    lines: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


def curve_figures(history: pd.DataFrame, results: pd.DataFrame, metrics: Sequence[str]) -> list[Figure]:
    """Show what was logged over updates, one figure per metric that has values."""
    figures = []
    variants = list(with_columns(results, ["variant"])["variant"].unique())
    for metric in metrics:
        points = plots.curve_table(history, results, metric)
        if len(points):
            caption = f"{_capital(plots.METRICS[metric][0])} over updates."
            drawn = plots.learning_curves(points, variants, metric)
            data = plots.band_table(points)
            figures.append(figure(f"curve-{metric}", caption, drawn, data, f"{metric}_over_updates.csv"))
    return figures


def gradient_section(history: pd.DataFrame, results: pd.DataFrame) -> RunSection:
    """Say how long gradients were, and how often they were clipped: a reduction that is clipped is no longer itself."""
    names = ("grad_norm", "clip_fraction", "update_ratio", "updates", "non_finite_updates", "zero_infinity_hits")
    means = {name: summary_by_variant(results, name).set_index("variant") for name in names}
    norm = means["grad_norm"]
    rows = tuple(
        (
            text(name), number(norm["mean"][name], "{:.3g}"),
            number(norm["min"][name], "{:.3g}"), number(norm["max"][name], "{:.3g}"),
            rate(means["clip_fraction"]["mean"][name]), number(means["update_ratio"]["mean"][name], "{:.2g} %", 100.0),
            whole(means["updates"]["mean"][name]), *(whole(_total(means[other], name)) for other in names[4:]),
        )
        for name in norm.index
    )  # fmt: skip
    head = (
        "variant", "gradient norm before clipping", "least trial", "greatest trial", "clipped updates", "step / weights",
        "updates", "updates skipped: not finite", "infinite losses made 0",
    )  # fmt: skip
    table = Table("gradients", "Mean over the finished trials of each variant", head, rows, "No trial was requested.")
    clipped = means["clip_fraction"]["mean"]
    mostly = [str(name) for name in clipped.index[clipped > 0.5]]
    lines = (
        "An update whose gradient is longer than max_grad_norm is cut to that length: then only its direction counts.",
        *(
            (f"More than half of the updates were clipped under {', '.join(mostly)}: there the length of most gradients had no effect.",)
            if mostly
            else ()
        ),
    )  # fmt: skip
    return RunSection(lines, (table,), tuple(curve_figures(history, results, GRADIENTS)))


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _total(summary: pd.DataFrame, name: Any) -> float:
    return summary["mean"][name] * summary["n_values"][name]


def trials_table(results: pd.DataFrame) -> Table:
    """List every requested trial, whatever became of it."""
    names = ["updates", "seconds", "padding_fraction", "audio_seconds_per_second", "attempts", "error"]
    rows = tuple(
        (
            text(row["trial_id"]), text(row["variant"]), text(row["status"]), rate(row["wer"]), whole(row["updates"]),
            number(row["seconds"], "{:,.1f}"), rate(row["padding_fraction"]),
            number(row["audio_seconds_per_second"], "{:,.1f}"), whole(row["attempts"]), text(row["error"]),
        )
        for row in with_columns(results, names).to_dict("records")
    )  # fmt: skip
    head = (
        "trial",
        "variant",
        "status",
        "WER",
        "updates",
        "seconds of the last attempt",
        "padding",
        "audio s / s",
        "attempts",
        "error",
    )
    return Table("trials", "Every requested trial", head, rows, "No trial was requested.")


def failure_section(results: pd.DataFrame) -> RunSection:
    """List the trials that failed, were ended early, or needed more than one attempt."""
    names = ["failure", "broken_off", "out_of_memory", "attempts", "error", "tracker_warning"]
    table = with_columns(results, ["trial_id", "variant", "status", *names])
    attempts, halved = (_whole_numbers(table[name]) for name in ("attempts", "out_of_memory"))
    troubled = table["status"].isin(_TROUBLE) | (attempts > 1) | (halved > 0) | table["broken_off"].notna()
    rows = tuple(
        (
            text(row["trial_id"]), text(row["variant"]), text(row["status"]), text(row["failure"]), whole(row["attempts"]),
            text(row["broken_off"]), whole(row["out_of_memory"]), text(row["error"]),
        )
        for row in table[troubled].to_dict("records")
    )  # fmt: skip
    head = ("trial", "variant", "status", "class of failure", "attempts", "broken off", "micro-batches halved", "error")
    ends = [
        count(int((table["status"] == name).sum()), f"trial {name}").replace(f" {name}s", f"s {name}")
        for name in _TROUBLE
    ]
    again = int((attempts > 1).sum())
    line = f"{', '.join(ends)}; {count(again, 'trial')} begun more than once"
    line += f" ({count(int((attempts - 1).clip(lower=0).sum()), 'further attempt')})" if again else ""
    line += f"; memory ran out and micro-batches were halved {count(int(halved.sum()), 'time')}" if halved.sum() else ""
    none = "No trial failed, was ended early or needed a second attempt."
    caption = "Trials that failed, were ended early, or did not run through at once"
    untold = int(table["tracker_warning"].notna().sum())
    line += f"; {count(untold, 'trial')} reported to a tracker in part only (column tracker_warning)" if untold else ""
    return RunSection((f"{line}.",), (Table("failures", caption, head, rows, none),))


def _whole_numbers(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values).fillna(0).astype(int)


def cost_section(results: pd.DataFrame) -> RunSection:
    """Say what the trials cost, what of it was padding, and how fast they went."""
    names = ["seconds", "device_seconds", "earlier_device_seconds", "untimed_attempts", "device", "padding_fraction"]
    table = with_columns(results, ["variant", "status", *names])
    spent, earlier = (pd.to_numeric(table[name]).astype(float) / 3600 for name in names[1:3])
    table = table.assign(hours=spent, earlier_hours=earlier)
    timed = int(spent.notna().sum())
    rows = tuple(_cost(str(name), part) for name, part in table.groupby("variant", sort=False))
    head = (
        "variant",
        "trials with a time",
        "device hours",
        "of these in earlier attempts",
        "seconds of the last attempt (done)",
        "padding",
        "audio s / s",
        "peak memory (MB)",
    )
    made = Table("cost", "Cost and speed, by variant", head, rows, "No trial was requested.")
    devices = ", ".join(sorted(map(str, table["device"].dropna().unique())))
    lines = [f"{table['hours'].sum():.2f} device hours in {count(timed, 'trial')}{f' ({devices})' if devices else ''}"]
    lines[0] += f", {earlier.sum():.2f} of them in attempts before the last." if (earlier > 0).any() else "."
    unknown = int(_whole_numbers(table["untimed_attempts"]).sum())
    lines.append(
        "A trial has the time of all its attempts, each times its workers"
        + (f"; what {count(unknown, 'attempt')} took was not recorded and is not in it." if unknown else ".")
    )
    if timed < len(table):
        lines.append(f"{count(len(table) - timed, 'trial')} without a recorded time.")
    figures = []
    for metric in ("padding_fraction", "audio_seconds_per_second"):
        done = table[table["status"] == "done"]
        if metric in results.columns and len(finite(done[metric])):
            data = with_columns(done, ["seed"])[["variant", "seed", "trial_id", metric]]
            caption = f"{_capital(plots.METRICS[metric][0])} of every finished trial."
            figures.append(
                figure(f"strip-{metric}", caption, plots.seed_strip(results, metric), data, f"{metric}_by_trial.csv")
            )
    return RunSection(tuple(lines), (made,), tuple(figures))


def _cost(variant: str, part: pd.DataFrame) -> tuple[Cell, ...]:
    part = with_columns(part, ["audio_seconds_per_second", "peak_memory_bytes"])
    mean = {name: finite(part[name]).mean() for name in ("padding_fraction", "audio_seconds_per_second")}
    seconds = finite(part.loc[part["status"] == "done", "seconds"]).mean()
    return (
        text(variant), whole(int(part["hours"].notna().sum())), number(part["hours"].sum(min_count=1), "{:,.3f}"),
        number(part["earlier_hours"].sum(min_count=1), "{:,.3f}"),
        number(seconds, "{:,.1f}"), rate(mean["padding_fraction"]),
        number(mean["audio_seconds_per_second"], "{:,.1f}"),
        number(finite(part["peak_memory_bytes"]).max(), "{:,.0f}", 1e-6),
    )  # fmt: skip


def made_with_table(results: pd.DataFrame) -> Table:
    """List with what code and versions trials were made: one row where all are alike."""
    names = ["git_sha", "git_patch", "python", "packages", "host", "device", "data_fingerprint"]
    table = with_columns(results, names)[names].astype(object)
    table = table[table[["git_sha", "python", "packages", "host"]].notna().any(axis=1)]
    counted = table.where(table.notna(), None).value_counts(sort=False, dropna=False)
    rows = tuple(
        (
            whole(number_of), text(sha), text(patch), text(python), text(_versions(packages)), text(host), text(device),
            text(data),
        )
        for (sha, patch, python, packages, host, device, data), number_of in counted.items()
    )  # fmt: skip
    head = (
        "trials",
        "commit",
        "patch in provenance/",
        "python",
        "packages",
        "host",
        "device",
        "fingerprint of the data",
    )
    return Table(
        "made-with", "What the trials were made with", head, rows, "What trials were made with was not recorded."
    )


def _versions(packages: Any) -> str | None:
    if not isinstance(packages, str):
        return None
    return ", ".join(f"{name} {version}" for name, version in json.loads(packages).items())
