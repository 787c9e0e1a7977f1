"""Trials without training, through `launcher.run` as those of a study: what scheduling costs is all that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher import config, results
from launcher.cluster import Cluster, Sizing
from launcher.places import Place


class Silent:
    """Hears what becomes of the trials, and shows nothing."""

    def started(self, trial_id: str) -> None:
        """Nothing."""

    def waiting(self, trial_id: str) -> None:
        """Nothing."""

    def reported(self, trial_id: str, metrics: Mapping[str, Any]) -> None:
        """Nothing."""

    def finished(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def stopping(self, why: str) -> None:
        """Nothing."""


def jobs(count: int, out: Path) -> list[dict[str, Any]]:
    """Make so many trials `t0`, `t1` ... and their folders."""
    study = config.load(None, ())
    made = [
        {"trial_id": f"t{number}", "folder": str(out / "trials" / f"t{number}"), "stop_file": str(out / "stop"),
         "threads": 1, "launch": "one", "sections": study.as_dict()}
        for number in range(count)
    ]  # fmt: skip
    for job in made:
        Path(job["folder"]).mkdir(parents=True)
    return made


def end(job: Mapping[str, Any]) -> str:
    """End a trial as a finished one does; called in its worker."""
    results.write_json(Path(job["folder"]) / "result.json", {"trial_id": job["trial_id"], "status": "done"})
    return "done"


def run(
    trials: list[dict[str, Any]], trainable: str, connected: Cluster, sizing: Sizing, backend: str, *,
    listener: Silent | None = None,
) -> float:  # fmt: skip
    """Run trials to their ends; return the seconds that it took.

    Args:
        trials: as `jobs` made them.
        trainable: "module:function" of what each does instead of training.
        connected: the cluster.
        sizing: how many run at a time.
        backend: "train" or "tune".
        listener: hears of them; None: nobody.

    Raises:
        SystemExit: not all are done.
    """
    from launcher import run as running

    out = Path(trials[0]["folder"]).parents[1]
    started = time.perf_counter()
    running.run(
        trials, trainable, cluster=connected, sizing=sizing, backend=backend, stop_file=out / "stop", fail_fast=True,
        early_stopping=False, listener=listener or Silent(), place=Place(out),
    )  # fmt: skip
    took = time.perf_counter() - started
    done = sum(results.outcome(Path(job["folder"]))["status"] == "done" for job in trials)
    if done != len(trials):
        sys.exit(f"{done} of {len(trials)} trials are done")
    return took
