"""Hand trials to a launch: what their folders say of what they are and of the launches that took them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from launcher import launches, masking, results
from launcher.study import Prepared, Study, Trial

Taken = Mapping[str, Sequence[Mapping[str, Any]]]
_MOST_NAMED = 5


def take_up(
    todo: Sequence[Trial], rows: Mapping[str, Mapping[str, Any]], out: Path, launch: Mapping[str, Any], console: Console
) -> Taken:
    """Add a launch to those of each trial; warn where it goes on from what other code or versions made.

    Args:
        todo: trials that the launch is to run.
        rows: what is known of each trial, by id.
        out: folder of the study.
        launch: see `provenance.of_launch`.
        console: where the warning goes.

    Returns:
        the launches of each trial by its id, this one last; nothing is written yet.
    """
    taken = {trial.trial_id: _launches(trial, rows[trial.trial_id], out, launch) for trial in todo}
    told: dict[str, list[str]] = {}
    for trial_id, entries in taken.items():
        if found := _changes(entries):
            told.setdefault(found, []).append(trial_id)
    for found, trial_ids in told.items():
        named = ", ".join(trial_ids[:_MOST_NAMED]) + (" ..." if len(trial_ids) > _MOST_NAMED else "")
        console.print(
            f"Warning: {len(trial_ids)} of the trials to run go on from what an earlier launch made with other code or "
            f"versions ({found}): {named}; the column mixed_code tells which, --fresh begins all trials again",
            style="yellow", markup=False, highlight=False,
        )  # fmt: skip
    return taken


def job(study: Study, trial: Trial, data: Prepared, out: Path, stop_file: Path) -> dict[str, Any]:
    """Write down what the worker of a trial is told, as plain data; what a launch adds is `threads` and `launch`.

    Args:
        study: what the trial is part of.
        trial: what is to be run.
        data: what it trains on.
        out: folder of the study, absolute.
        stop_file: the trial stops behind a checkpoint once this exists.
    """
    board = out / "tensorboard" / trial.run_name if trial.configuration.training.tensorboard else None
    return {
        "trial_id": trial.trial_id,
        "out": str(out),
        "axes": dict(trial.axes),
        "sections": trial.configuration.as_dict(),
        "groups": list(study.groups),
        "store": str(Path(data.path).resolve()),
        "folder": str(results.trial_folder(out, trial.trial_id)),
        "tensorboard": str(board) if board is not None else None,
        "stop_file": str(stop_file),
        "audits": str(out / "audits"),
        "weights": dict(study.weights),
        "reductions": list(dict.fromkeys(cell.model.reduction for cell in study.configurations)),
    }


def describe(todo: Sequence[Trial], taken: Taken, out: Path) -> None:
    """Write trial.conf and trial.json of each trial, each whole or not at all, before its worker can begin."""
    for trial in todo:
        place = results.trial_folder(out, trial.trial_id)
        text = masking.without_passwords(trial.configuration.to_conf())
        results.write_whole(place / "trial.conf", lambda path, text=text: path.write_text(text, encoding="utf-8"))
        # Drawn once: what an attempt has on a machine that was cut off is of this folder, or of one that was set aside since.
        folder_id = results.trial_file(place).get("folder_id") or uuid.uuid4().hex
        told = {"identity": trial.identity, "folder_id": folder_id, "launches": taken[trial.trial_id]}
        results.write_json(place / "trial.json", told)


def _launches(
    trial: Trial, row: Mapping[str, Any], out: Path, launch: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:  # fmt: skip
    place = results.trial_folder(out, trial.trial_id)
    # A worker uses again what it finds of these: weights and optimizer, and the scores of the start.
    goes_on = (place / "initial.parquet").is_file() or any(place.glob("checkpoints/checkpoint-*/sealed.json"))
    before = results.trial_file(place).get("launches", ())
    return launches.handed_out(before, launch, attempts=row["attempts"], goes_on=goes_on)


def _changes(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries[-1]["goes_on"]:
        return ""
    return ", ".join(launches.changes(entries[-2], entries[-1])) if len(entries) > 1 else "the code was not recorded"
