"""Run the trials of a study that are missing: connect, size, hand out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from launcher import progress, results
from launcher.study import Prepared, Study, Trial


@dataclass(frozen=True)
class Placing:
    """Where and how trials are to run; see `launch.py --help`."""

    address: str | None
    workers: int
    backend: str
    max_concurrent: int | None
    fail_fast: bool


def run(
    study: Study, trials: Sequence[Trial], todo: Sequence[Trial], rows: Mapping[str, Mapping[str, Any]],
    data: Prepared, out: Path, *, placing: Placing, command: str, console: Console,
) -> bool:  # fmt: skip
    """Run trials until each has ended or the study was interrupted.

    Args:
        study: what was asked for.
        trials: all of the study, for the table on the screen.
        todo: those to run.
        rows: what is known of each trial, by id.
        data: what they train on.
        out: folder of the study.
        placing: where.
        command: the command line, for the record.
        console: where progress goes.

    Returns:
        whether it was interrupted.
    """
    from launcher import cluster

    stop_file = out.resolve() / f".stop-{os.getpid()}"
    stop_file.unlink(missing_ok=True)  # of an earlier launch that was killed and had this number
    console.print(
        "starting Ray ..." if placing.address is None else f"connecting to {placing.address} ...", markup=False
    )
    try:
        with cluster.connected(placing.address) as connected:
            sizing = cluster.size(
                connected, len(todo), workers=placing.workers, backend=placing.backend,
                max_concurrent=placing.max_concurrent,
            )  # fmt: skip
            jobs = [_job(study, trial, data, out, stop_file, sizing.cpus_per_worker) for trial in todo]
            device = "GPU" if sizing.use_gpu else "CPU"
            console.print(
                f"{sizing.max_concurrent} trials at a time, {sizing.workers} {device} worker(s) each", markup=False
            )
            from launcher import run  # imports Ray, which reads its environment once: not before it is set

            log = (out / "ray.log").open("a", encoding="utf-8")
            # Ray writes banners and warnings to stdout, which is for data.
            with log, redirect_stdout(log), progress.Board(trials, rows, console) as board:
                return run.run(
                    jobs, study.train_fn, cluster=connected, sizing=sizing, backend=placing.backend,
                    stop_file=stop_file, fail_fast=placing.fail_fast, listener=board,
                )  # fmt: skip
    finally:
        stop_file.unlink(missing_ok=True)


def _job(study: Study, trial: Trial, data: Prepared, out: Path, stop_file: Path, threads: int) -> dict[str, Any]:
    place = results.trial_folder(out.resolve(), trial.trial_id)
    board = out.resolve() / "tensorboard" / trial.run_name if trial.configuration.training.tensorboard else None
    place.mkdir(parents=True, exist_ok=True)
    results.write_whole(
        place / "trial.conf", lambda path: path.write_text(trial.configuration.to_conf(), encoding="utf-8")
    )
    return {
        "trial_id": trial.trial_id,
        "axes": dict(trial.axes),
        "sections": trial.configuration.as_dict(),
        "groups": list(study.groups),
        "store": str(Path(data.path).resolve()),
        "folder": str(place),
        "tensorboard": str(board) if board is not None else None,
        "stop_file": str(stop_file),
        "threads": threads,
        "audits": str(out.resolve() / "audits"),
        "reductions": list(dict.fromkeys(cell.model.reduction for cell in study.configurations)),
    }
