"""Plans and results as text or JSON: data to stdout, remarks to the console on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console

from launcher import progress, results
from launcher.study import Study, Trial

EXIT_DONE, EXIT_FAILED_TRIALS = 0, 3


def results_table(tables: results.Tables, *, as_json: bool, extra: Mapping[str, Any] | None = None) -> int:
    """Print the results table to stdout.

    Returns:
        3 when some trials failed, else 0.
    """
    frame = tables.results
    if as_json:
        rows = [_plain(row) for row in frame.drop(columns=["config"]).to_dict("records")]
        click.echo(json.dumps({"study": tables.study["study"], **(extra or {}), "trials": rows}, indent=1))
    else:
        click.echo(_text_table(frame, tables.study["axes"]))
    return EXIT_FAILED_TRIALS if (frame["status"] == "failed").any() else EXIT_DONE


def plan(study: Study, trials: Sequence[Trial], rows: Mapping[str, Mapping[str, Any]], *, as_json: bool) -> None:
    """List the trials: number, id, axes, and what is done of each."""
    if as_json:
        listed = [
            {
                "trial_id": trial.trial_id,
                "variant": trial.variant,
                "axes": dict(trial.axes),
                **_known(rows[trial.trial_id]),
            }
            for trial in trials
        ]
        content = {"study": study.name, "data_fingerprint": study.data_fingerprint, "trials": listed}
        click.echo(json.dumps(content, indent=1, default=str))
        return
    for number, trial in enumerate(trials):
        known = _known(rows[trial.trial_id])
        axes = " ".join(f"{name}={value}" for name, value in trial.axes.items())
        error = f": {known['error']}" if known["error"] else ""
        click.echo(f"#{number} {trial.trial_id}  {axes}  [{known['status']}{error}]")


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": row["status"], "error": row.get("error")}


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
    return shown.to_string(index=False)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(name): None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def failures(tables: results.Tables, console: Console) -> None:
    """Say which trials failed and why."""
    failed = tables.results[tables.results["status"] == "failed"]
    for name, error in zip(failed["trial_id"], failed["error"]):
        console.print(f"failed: {name}: {error}", style="red", markup=False, highlight=False)
