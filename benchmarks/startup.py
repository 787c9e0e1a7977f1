"""Where the start-up of a trial goes: trials that only import what a trial imports, one after the other, in both backends.

    python benchmarks/startup.py [--trials 4]

Times are of trials after the first (its processes, caches and cluster are cold), medians in seconds:
"scheduled": from the end of the trial before to this one's being handed to Tune; "process": until the process of its worker
exists; "called": until the training function is called in it; "imported": until torch, transformers and lossgrid are
imported; "heard": from the end of the training function until the launcher knows of it.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from launcher import cluster, results
from launcher.cluster import Sizing
from launcher.places import Place

OUT = Path(__file__).parent / "out" / "startup.json"
PHASES = ("scheduled", "process", "called", "imported", "heard")


@click.command()
@click.option("--trials", default=4, show_default=True)
def main(trials: int) -> None:
    """Measure, print a table, write JSON."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="lossgrid-startup-") as scratch, cluster.connected(None) as connected:
        measured: dict[str, Any] = {"cluster_s": time.time() - started}
        for backend in ("train", "tune"):
            measured[backend] = _trials(trials, connected, backend, Path(scratch) / backend)
    print(f"a private cluster: {measured['cluster_s']:.1f} s")
    print(f"{'backend':9}" + "".join(f"{phase:>11}" for phase in (*PHASES, "in all")))
    for backend in ("train", "tune"):
        values = [measured[backend][phase] for phase in PHASES]
        print(f"{backend:9}" + "".join(f"{value:11.2f}" for value in (*values, sum(values))))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(measured, indent=1), encoding="utf-8")


def mark(job: Mapping[str, Any], session: Any = None) -> str:
    """Note when the process was made, when this was called and when the imports of a trial were done."""
    called = time.time()
    import psutil

    import trainables.wav2vec2_ctc  # noqa: F401

    times = {"process": psutil.Process().create_time(), "called": called, "imported": time.time()}
    results.write_json(Path(job["folder"]) / "result.json", {"trial_id": job["trial_id"], "status": "done", **times})
    return "done"


def _trials(trials: int, connected: cluster.Cluster, backend: str, out: Path) -> dict[str, float]:
    from launcher import run

    sizing, clock = Sizing(workers=1, use_gpu=False, cpus_per_worker=1, max_concurrent=1), _Clock()
    jobs = [
        {"trial_id": f"t{number}", "folder": str(out / f"t{number}"), "stop_file": str(out / "stop"), "threads": 1, "launch": "one"}
        for number in range(trials)
    ]  # fmt: skip
    for job in jobs:
        Path(job["folder"]).mkdir(parents=True)
    run.run(
        jobs, "startup:mark", cluster=connected, sizing=sizing, backend=backend, stop_file=out / "stop", fail_fast=False,
        early_stopping=False, listener=clock, place=Place(out),
    )  # fmt: skip
    rows = [json.loads((out / job["trial_id"] / "result.json").read_text(encoding="utf-8")) for job in jobs]
    phases: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for before, row in itertools.pairwise(rows):
        ended, begun = clock.ended[before["trial_id"]], clock.begun[row["trial_id"]]
        process = max(begun, row["process"])  # a process that is used again is there already
        for phase, seconds in zip(
            PHASES,
            (
                begun - ended,
                process - begun,
                row["called"] - process,
                row["imported"] - row["called"],
                clock.ended[row["trial_id"]] - row["imported"],
            ),
            strict=True,
        ):
            phases[phase].append(seconds)
    return {phase: statistics.median(values) for phase, values in phases.items()}


class _Clock:
    """Notes when the launcher hears of what."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def started(self, trial_id: str) -> None:
        """Note."""
        self.begun.setdefault(trial_id, time.time())

    def waiting(self, trial_id: str) -> None:
        """No machine is waited for here."""

    def reported(self, trial_id: str, metrics: Mapping[str, Any]) -> None:
        """Nothing."""

    def finished(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Note."""
        self.ended[trial_id] = time.time()

    def stopping(self, why: str) -> None:
        """Nothing."""


if __name__ == "__main__":
    main()
