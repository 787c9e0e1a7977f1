"""What scheduling costs: trials that do nothing, through the launcher and through Tune alone, side by side.

    python benchmarks/scale.py [--trials 1000] [--train-trials 6] [--planned 10000]

"Tune alone" is a Tune function that returns at once, with reused processes: the least that any launcher on Tune can take.
"launcher" runs the same number of trials through `launcher.run`, each of which writes its result as a trial does. The
memory is that of this process, which drives both; the state is what a study of so many trials keeps on the disk beside its
results. "planned" is a plan of so many trials, from the configuration to the ids. With Ray Train a trial starts a group of
processes; a few trials tell what each takes.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import idle_trials

from launcher import cluster, config
from launcher.cluster import Sizing

OUT = Path(__file__).parent / "out" / "scale.json"


@click.command()
@click.option("--trials", default=1000, show_default=True, help="Trials that do nothing, inside Tune.")
@click.option("--train-trials", default=6, show_default=True, help="Trials that do nothing, inside Ray Train.")
@click.option("--planned", default=10_000, show_default=True, help="Trials of a plan.")
@click.option("--turns", default=3, show_default=True, help="The fastest of so many counts.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(trials: int, train_trials: int, planned: int, turns: int, out: Path) -> None:
    """Measure, print a table, write JSON."""
    measured: dict[str, Any] = {"trials": trials, **_plan(planned)}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="lossgrid-scale-") as scratch, cluster.connected(None) as connected:
        sizing = Sizing(workers=1, use_gpu=False, cpus_per_worker=1, max_concurrent=max(1, int(connected.cpus)))
        alone, ours = [], []
        for turn in range(turns):
            alone.append(_tune_alone(trials, sizing, Path(scratch)))
            jobs = idle_trials.jobs(trials, Path(scratch) / f"tune-{turn}")
            ours.append(idle_trials.run(jobs, "scale:noop", connected, sizing, "tune"))
        measured |= {
            "tune_alone_ms_per_trial": 1000 * min(alone) / trials,
            "launcher_ms_per_trial": 1000 * min(ours) / trials,
            "state_bytes_per_trial": _bytes(Path(scratch) / "tune-0") / trials,
            "driver_memory_bytes": _peak_memory_bytes(),
        }
        if train_trials:
            one = Sizing(workers=1, use_gpu=False, cpus_per_worker=1, max_concurrent=1)
            jobs = idle_trials.jobs(train_trials, Path(scratch) / "train")
            took = idle_trials.run(jobs, "scale:noop", connected, one, "train")
            measured["train_s_per_trial"] = took / train_trials
    measured["beyond_tune_ms_per_trial"] = measured["launcher_ms_per_trial"] - measured["tune_alone_ms_per_trial"]
    for name, value in measured.items():
        print(f"{name:28} {value:,.1f}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(measured, indent=1), encoding="utf-8")


def noop(job: Mapping[str, Any], session: Any = None) -> str:
    """End at once, with a result."""
    return idle_trials.end(job)


def _tune_alone(trials: int, sizing: Sizing, scratch: Path) -> float:
    from ray import tune

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=scratch) as storage:
        tune.Tuner(
            tune.with_resources(lambda cell: None, sizing.device),
            param_space={"number": tune.grid_search(list(range(trials)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=sizing.max_concurrent, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=storage, name="study", verbose=0),
        ).fit()
    return time.perf_counter() - started


def _plan(trials: int) -> dict[str, float]:
    from search_spaces import losses

    seeds = ",".join(str(seed) for seed in range(1, trials // 2 + 1))
    started = time.perf_counter()
    overrides = ("reduction=sum,mean", f"seed={seeds}")
    planned = losses.study(config.load(None, overrides, defaults=losses.DEFAULTS)).with_data("0" * 16).trials()
    took = time.perf_counter() - started
    return {"planned": len(planned), "planned_ms_per_trial": 1000 * took / len(planned)}


def _peak_memory_bytes() -> int:
    """Return the highest memory of this process; getrusage would count that of the process it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
