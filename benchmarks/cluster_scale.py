"""What concurrent trials cost the head of a cluster: memory, processor time, start-up and reports, by backend.

    python benchmarks/cluster_scale.py [--backend train --trials 1,2,4,8] [--backend tune --trials 8,64]

A head without CPUs and nodes with more CPUs than this machine has, all raylets of this machine (`ray.cluster_utils`); trials
go through `launcher.run` as those of a study do, and train nothing: they wait, then report, then end. What counts as the head
are the processes that a head would hold: Ray's servers, the head's raylet with its children, and the launch.
Memory is PSS (shared pages divided among their users) and USS (pages that nobody shares). Times of processors are user and
system together; the wall time to start is that of this machine, which carries the workers too.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import cluster_head
import idle_trials

from launcher import cluster
from launcher.cluster import Sizing

OUT = Path(__file__).parent / "out" / "cluster_scale.json"
# Processes that have just begun or ended load the processors of the head for a while: not what is measured.
POLL_SECONDS, SETTLE_SECONDS, TIME_LIMIT_SECONDS = 0.2, 5.0, 900.0
_SCORES = {"wer": 0.5, "cer": 0.3, "nll_per_label": 1.5, "runtime": 1.0, "update": 7, "updates": 100}


@click.command()
@click.option("--backend", type=click.Choice(["train", "tune"]), default="train", show_default=True)
@click.option("--trials", default="1,2,4", show_default=True, help="Trials at a time, one run after the other.")
@click.option("--nodes", default=2, show_default=True, help="Raylets beside the head.")
@click.option("--idle", default=30.0, show_default=True, help="Seconds for which trials do nothing.")
@click.option(
    "--reporting", default=15.0, show_default=True, help="Seconds for which trials report as fast as they can."
)
@click.option("--starting", default=0, show_default=True,
              help="Processes that the head starts at a time (RAY_worker_maximum_startup_concurrency); 0: as Ray has it, "
              "which is one on a head without CPUs.")  # fmt: skip
@click.option("--empty", default=0, show_default=True, help="First start so many processes on the head, and time it.")
@click.option("--scratch", type=click.Path(path_type=Path, exists=True), default=Path("/tmp"), show_default=True,
              help="Where Ray puts its session; sockets want a short path.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(
    backend: str, trials: str, nodes: int, idle: float, reporting: float, starting: int, empty: int, scratch: Path,
    out: Path,
) -> None:  # fmt: skip
    """Measure, print a table, write JSON: one entry per backend and number of trials, earlier ones are kept."""
    name = backend if not starting else f"{backend}, {starting} starting"
    counts = [int(count) for count in trials.split(",") if count]
    with tempfile.TemporaryDirectory(dir=scratch, prefix="scale-", ignore_cleanup_errors=True) as folder:
        cluster_head.keep_apart(Path(folder))
        with (
            cluster_head.started(nodes, max(counts, default=1), starting) as head,
            cluster.connected(head.address) as connected,
        ):
            time.sleep(SETTLE_SECONDS)
            _keep(out, f"{name} 0", {"memory": head.memory()})
            if empty:
                _keep(out, f"{name}, {empty} empty", {"start_wall_s": _start_empty(empty)})
            for count in counts:
                run = _Run(head, count, idle, reporting, Path(folder) / f"study-{count}")
                measured = run.carry_out(connected, backend)
                _show(f"{name} {count}", measured)
                _keep(out, f"{name} {count}", measured)
                time.sleep(SETTLE_SECONDS)


def _start_empty(count: int) -> float:
    """Return the seconds until processes that do nothing have begun on the head, once one has."""
    import ray

    started = ray.remote(num_cpus=0, resources={cluster.DRIVER: 0.001})(_Empty)
    ray.get(started.remote().begun.remote())
    began = time.monotonic()
    actors = [started.remote() for _ in range(count)]
    ray.get([actor.begun.remote() for actor in actors])
    took = time.monotonic() - began
    print(f"{count} empty processes: {took:.1f} s", flush=True)
    return took


class _Empty:
    def begun(self) -> None:
        """Nothing."""


def _keep(out: Path, name: str, measured: Mapping[str, Any]) -> None:
    known = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**known, name: measured}, indent=1), encoding="utf-8")


def trial(job: Mapping[str, Any], session: Any = None) -> str:
    """Wait, report, end: what a training function does, without training."""
    if session is None:
        import ray.train

        report = ray.train.report
    else:
        report = session.report
    folder, out = Path(job["folder"]), Path(job["folder"]).parents[1]
    (folder / "begun").touch()
    _wait(out / "reporting")
    sent = 0
    while not (out / "over").exists():
        report({**_SCORES, "update": sent})
        sent += 1
    return idle_trials.end(job)


@dataclass
class _Run:
    """Trials at a time that wait, report and end, and what the head holds meanwhile."""

    head: cluster_head.Head
    count: int
    idle: float
    reporting: float
    out: Path
    measured: dict[str, Any] = field(default_factory=dict)
    listener: _Counting = field(default_factory=lambda: _Counting())
    fault: BaseException | None = None

    def carry_out(self, connected: cluster.Cluster, backend: str) -> dict[str, Any]:
        """Run and measure side by side."""
        trials = idle_trials.jobs(self.count, self.out)
        self.measured["job_bytes"] = len(json.dumps(trials[0]))
        watcher = threading.Thread(target=self._watch_and_end, daemon=True)
        watcher.start()
        sizing = Sizing(1, False, 1, self.count)
        idle_trials.run(trials, "cluster_scale:trial", connected, sizing, backend, listener=self.listener)
        watcher.join()
        if self.fault is not None:
            raise self.fault
        return self.measured

    def _watch_and_end(self) -> None:
        """Whatever goes wrong here, the trials must come to their end."""
        try:
            self._watch()
        except BaseException as error:
            self.fault = error
        for name in ("reporting", "over"):
            (self.out / name).touch()

    def _watch(self) -> None:
        began, before = time.monotonic(), self.head.cpu()
        for number in range(self.count):
            _wait(self.out / "trials" / f"t{number}" / "begun")
        took, started = time.monotonic() - began, self.head.cpu()
        time.sleep(SETTLE_SECONDS)
        calm, calm_since = self.head.cpu(), time.monotonic()
        time.sleep(self.idle)
        waited, idled = self.head.cpu(), time.monotonic() - calm_since
        memory, stored = self.head.memory(), self.head.object_store_bytes()
        loaded, counted, since = self.head.cpu(), self.listener.reports, time.monotonic()
        (self.out / "reporting").touch()
        time.sleep(self.reporting)
        reports, reported, lasted = self.listener.reports - counted, self.head.cpu(), time.monotonic() - since
        self.measured |= {
            "start_wall_s": took,
            "start_cpu_s": _less(started, before),
            "idle_cores": _less(waited, calm, idled),
            "memory": memory,
            "object_store_bytes": stored,
            "reports_per_s": reports / lasted,
            "reporting_cores": _less(reported, loaded, lasted),
        }


class _Counting(idle_trials.Silent):
    """Counts what the launch is told."""

    def __init__(self) -> None:
        self.reports = 0

    def reported(self, trial_id: str, metrics: Mapping[str, Any]) -> None:
        """Count."""
        self.reports += 1


def _wait(path: Path) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + TIME_LIMIT_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path} did not come within {TIME_LIMIT_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _less(after: Mapping[str, float], before: Mapping[str, float], seconds: float = 1.0) -> dict[str, float]:
    """Return what was added, by kind, per second; an ended process moves to its parent, so only the sum is exact."""
    return {kind: (after.get(kind, 0.0) - before.get(kind, 0.0)) / seconds for kind in {**before, **after}}


def _show(name: str, measured: Mapping[str, Any]) -> None:
    memory, start = measured["memory"], measured["start_cpu_s"]
    print(
        f"{name}: {sum(one['pss'] for one in memory.values()) / 2**20:,.0f} MiB PSS on the head; "
        f"all begun in {measured['start_wall_s']:.0f} s, {sum(start.values()):.1f} processor seconds of the head; "
        f"idle {sum(measured['idle_cores'].values()):.3f} cores; {measured['reports_per_s']:.1f} reports/s "
        f"at {sum(measured['reporting_cores'].values()):.2f} cores; object store {measured['object_store_bytes'] / 2**20:.1f} MiB",
        flush=True,
    )
    for kind, one in sorted(memory.items(), key=lambda item: -item[1]["pss"]):
        print(
            f"  {kind:28} {one['processes']:4} x {one['pss'] / one['processes'] / 2**20:7.1f} MiB PSS "
            f"{one['uss'] / one['processes'] / 2**20:7.1f} USS; start {start.get(kind, 0):6.1f} s; "
            f"idle {measured['idle_cores'].get(kind, 0):.3f} cores; reporting {measured['reporting_cores'].get(kind, 0):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
