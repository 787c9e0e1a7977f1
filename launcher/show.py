"""Results as text or JSON: data to stdout, remarks to the console on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console

from launcher import noise, printable, progress, reading, results

EXIT_DONE, EXIT_FAILED_TRIALS = 0, 3
_MOST_NAMED = 10


def results_table(
    study: Mapping[str, Any], frame: pd.DataFrame, *, as_json: bool, extra: Mapping[str, Any] | None = None,
    floor: noise.NoiseFloor | None = None,
) -> int:  # fmt: skip
    """Print the results table to stdout.

    Args:
        study: study.json.
        frame: the results table.
        as_json: as JSON instead of text.
        extra: what the JSON holds besides.
        floor: how far equal runs differ, where the study asked for that.

    Returns:
        3 when some trials failed, else 0.
    """
    if as_json:
        rows = [plain(row) for row in frame.drop(columns=["config"]).to_dict("records")]
        head = {"study": study["study"], **(extra or {}), "noise_floor": noise.as_json(floor)}
        click.echo(json.dumps({**head, "trials": rows}, indent=1))
    else:
        click.echo(_text_table(frame, study["axes"]))
        if floor is not None:
            click.echo(printable.line(floor.sentence()))
    return EXIT_FAILED_TRIALS if (frame["status"] == "failed").any() else EXIT_DONE


def noise_floor(folder: Path, frame: pd.DataFrame) -> noise.NoiseFloor | None:
    """Compare the equal runs of a study; only their utterances are read.

    Args:
        folder: of the study.
        frame: the results table.
    """
    files = (results.trial_folder(folder, name) / "utterances.parquet" for name in noise.equal_runs(frame)["trial_id"])
    parts = [reading.table(file).to_pandas() for file in files if file.is_file()]
    return noise.noise_floor(frame, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame())


def _text_table(frame: Any, axes: Mapping[str, Sequence[Any]]) -> str:
    # The id of a trial tells its reduction and seed; what else is varied needs a column.
    varied = [name for name in axes if name not in ("reduction", "seed") and name in frame.columns]
    grouped = [name for name in frame.columns if name.startswith("wer/")]
    columns = ["trial_id", *varied, "status", "wer", *grouped, "cer", "nll_per_label", "updates", "seconds"]
    shown = frame[columns].copy()
    for name in ("wer", "cer", *grouped):
        shown[name] = [progress.per_cent(value) for value in shown[name]]
    shown["nll_per_label"] = [progress.number(value) for value in shown["nll_per_label"]]
    shown["seconds"] = ["" if value != value else f"{value:.0f}" for value in shown["seconds"]]
    shown["updates"] = ["" if value != value else f"{value:.0f}" for value in shown["updates"]]
    for name in ("trial_id", *varied, "status"):
        shown[name] = [printable.line(value) for value in shown[name]]
    return shown.rename(columns=printable.line).to_string(index=False)


def plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what is known of a trial as JSON can hold it: a number that is not finite is null."""
    return {
        str(name): None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def shortfalls(frame: pd.DataFrame, console: Console) -> None:
    """Say which trials of a results table failed, and why, and which were ended early."""
    failed = frame[frame["status"] == "failed"]
    for name, error in zip(failed["trial_id"], failed["error"]):
        console.print(printable.lines(f"failed: {name}: {error}"), style="red", markup=False, highlight=False)
    pruned = list(frame.loc[frame["status"] == "pruned", "trial_id"])
    if pruned:
        named = ", ".join(
            [*pruned[:_MOST_NAMED], *([f"and {len(pruned) - _MOST_NAMED} more"] if len(pruned) > _MOST_NAMED else [])]
        )
        told = (
            f"pruned, as others were ahead: {named}; the same command without --early-stopping trains them to the end"
        )
        console.print(printable.lines(told), style="yellow", markup=False, highlight=False)
