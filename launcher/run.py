"""From a study to finished trials: the only module that imports ray.tune.

Ray Tune schedules; each trial is a Tune function that wraps the training function in a `TorchTrainer` (`--backend train`)
or calls it itself (`--backend tune`). What a trial measured is in its folder; Ray's own results are not read.
"""

from __future__ import annotations

import functools
import os
import pkgutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune

from launcher import attempts, results
from launcher.attempts import Verdict
from launcher.cluster import DRIVER, Cluster, Sizing
from launcher.interrupts import two_interrupts
from launcher.memory import MemoryWatch
from launcher.pruning import Pruner

MAX_TRIAL_FAILURES = 12
"""How often Tune replaces the process that drives a trial; `launcher.attempts` gives up long before."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        interrupted: somebody asked for the end (Ctrl-C).
        halted: why nothing could be written any more; None: all went well.
    """

    interrupted: bool
    halted: str | None


class Listener(Protocol):
    """Who is told what happens."""

    def started(self, trial_id: str) -> None:
        """Hear that a trial was given its resources."""

    def reported(self, trial_id: str, metrics: Mapping[str, Any]) -> None:
        """Hear what a running trial reported."""

    def finished(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Hear how a trial ended: its row of the results table."""

    def stopping(self) -> None:
        """Hear that running trials were asked to stop behind a checkpoint."""


def run(
    jobs: Sequence[Mapping[str, Any]],
    train_fn: str,
    *,
    cluster: Cluster,
    sizing: Sizing,
    backend: str,
    stop_file: Path,
    fail_fast: bool,
    early_stopping: bool,
    listener: Listener,
) -> Outcome:
    """Run trials until each is done, failed or interrupted.

    Args:
        jobs: the trials to run, as plain data that travels to their workers (trial_id, folder, configuration ...).
        train_fn: "module:function", looked up by the workers.
        cluster: where.
        sizing: how many at a time.
        backend: "train" or "tune".
        stop_file: made when trials are to stop; they look for it after every update.
        fail_fast: stop all after the first failure.
        early_stopping: end trials that are behind others (ASHA).
        listener: is told what happens, in this process.
    """
    folders = {job["trial_id"]: Path(job["folder"]) for job in jobs}
    pruner = _pruner(stop_file.parent, folders) if early_stopping else None
    watcher = _Watcher(stop_file, fail_fast, listener, folders, pruner)
    driver: dict[str, float] = {DRIVER: 1} if cluster.has_driver_resource else {"CPU": 0.01}
    handed = _Jobs(ray.put({job["trial_id"]: dict(job) for job in jobs}))
    drive = functools.partial(_drive, jobs=handed, train_fn=train_fn, sizing=sizing, backend=backend)
    with tempfile.TemporaryDirectory(prefix="lossgrid-tune-") as scratch, two_interrupts(watcher.interrupt):
        tuner = tune.Tuner(
            tune.with_resources(drive, driver if backend == "train" else sizing.device),
            param_space={"trial_id": tune.grid_search([job["trial_id"] for job in jobs])},
            tune_config=tune.TuneConfig(max_concurrent_trials=sizing.max_concurrent, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=scratch,
                name="study",
                verbose=0,
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=MAX_TRIAL_FAILURES),
            ),
        )
        tuner.fit()
    return Outcome(watcher.interrupted, watcher.halted)


@dataclass(frozen=True)
class _Jobs:
    """All jobs of a run, in Ray's object store: a process that runs many trials reads them once."""

    reference: ray.ObjectRef

    def __getitem__(self, trial_id: str) -> Mapping[str, Any]:
        if self.reference.hex() not in _JOBS_READ:
            _JOBS_READ[self.reference.hex()] = ray.get(self.reference)
        return _JOBS_READ[self.reference.hex()][trial_id]


_JOBS_READ: dict[str, Any] = {}


def _drive(cell: Mapping[str, Any], *, jobs: _Jobs, train_fn: str, sizing: Sizing, backend: str) -> None:
    """Run one trial inside its Tune actor; a folder that cannot be written to is told to the launch."""
    job = jobs[cell["trial_id"]]
    try:
        verdict = _attempt(job, train_fn, sizing, backend)
        reason = attempts.reason(Path(job["folder"])) if verdict is Verdict.HALT else ""
    except results.ResultsError as unwritable:
        verdict, reason = Verdict.HALT, str(unwritable)
    if verdict is Verdict.HALT:
        tune.report({"status": verdict.name, "reason": reason})


def _attempt(job: Mapping[str, Any], train_fn: str, sizing: Sizing, backend: str) -> Verdict:
    """Attempt a trial from its last checkpoint until it ends or is to stop."""
    folder, launch = Path(job["folder"]), job["launch"]
    verdict = attempts.after_a_kill(folder, launch)
    while verdict is Verdict.AGAIN and not Path(job["stop_file"]).exists():
        error, memory = None, MemoryWatch()
        try:
            if backend == "tune":
                _work(job, train_fn, _TuneSession())
            else:
                _train(job, train_fn, sizing)
        except Exception as raised:
            error = raised
        verdict = attempts.settle(folder, launch, error, memory_ran_out=memory.ran_out())
        if verdict is Verdict.AGAIN and backend == "tune":
            raise _Again(f"{job['trial_id']} goes on in a new process: the old one may be damaged") from error
    return verdict


class _Again(RuntimeError):
    """Asks Tune for a new process."""


def _train(job: Mapping[str, Any], train_fn: str, sizing: Sizing) -> None:
    from ray import train
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    # A folder of its own: one that all users of a machine share would belong to the first of them.
    with tempfile.TemporaryDirectory(prefix="lossgrid-train-", ignore_cleanup_errors=True) as scratch:
        TorchTrainer(
            _Worker(train_fn),
            train_loop_config=dict(job),
            scaling_config=train.ScalingConfig(
                num_workers=sizing.workers,
                use_gpu=sizing.use_gpu,
                resources_per_worker=sizing.device,
            ),
            run_config=train.RunConfig(
                name=f"{job['trial_id']}-{uuid.uuid4().hex[:8]}",  # a name that Train knows would resume its own state
                storage_path=scratch,
                callbacks=[TuneReportCallback()],
                # Why a worker ended decides about another attempt (launcher.attempts), which Train does not ask.
                failure_config=train.FailureConfig(max_failures=0),
            ),
        ).fit()


@dataclass(frozen=True)
class _Worker:
    """The training function by name, so that the driver needs neither torch nor transformers."""

    train_fn: str

    def __call__(self, config: dict[str, Any]) -> str:
        return _work(config, self.train_fn)


def _work(job: Mapping[str, Any], train_fn: str, *session: Any) -> str:
    os.environ["OMP_NUM_THREADS"] = str(job["threads"])
    return pkgutil.resolve_name(train_fn)(job, *session)


class _TuneSession:
    """Lets the training function report to the Tune actor that it runs in."""

    def report(self, metrics: Mapping[str, Any]) -> None:
        tune.report(dict(metrics))


class _Watcher(tune.Callback):
    """Follows the trials for the listener; makes the stop file when they are to end."""

    def __init__(
        self, stop_file: Path, fail_fast: bool, listener: Listener, folders: Mapping[str, Path], pruner: Pruner | None
    ) -> None:
        self.stop_file, self.fail_fast, self.listener, self.folders = stop_file, fail_fast, listener, folders
        self.pruner, self.interrupted = pruner, False
        self.halted: str | None = None
        self._is_stopping = False

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks for a restore that is never made; what this one holds stays in this process."""
        return {}

    def stop(self) -> None:
        """Ask running trials to stop behind a checkpoint, and waiting ones not to begin."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._touch(self.stop_file)
        self.listener.stopping()

    def interrupt(self) -> None:
        """Stop because somebody asked for it."""
        self.interrupted = True
        self.stop()

    def halt(self, reason: str) -> None:
        """End the study because its folder cannot be written to."""
        self.halted = self.halted or reason
        self.stop()

    def _touch(self, path: Path) -> None:
        """Make a file that trials look for; where none can be made they meet the same fault and end by themselves."""
        try:
            path.touch()
        except OSError as error:
            self.halt(f"cannot write {path} ({error.strerror})")

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Pass on."""
        self.listener.started(trial.config["trial_id"])

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Pass on; a trial that is behind the others is told to end, one that cannot write ends the study."""
        name = trial.config["trial_id"]
        if result.get("status") == Verdict.HALT.name:
            self.halt(result["reason"])
        elif "status" not in result:
            self.listener.reported(name, result)
            if self.pruner is not None and self.pruner.is_behind(name, result):
                self._touch(self.folders[name] / "prune")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Read what the trial left in its folder."""
        self._ended(trial.config["trial_id"])

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Note why Tune gave the trial up, unless its worker did so itself."""
        name = trial.config["trial_id"]
        try:
            results.record_failure(self.folders[name], _reason(trial), attempts.LOST)
        except results.ResultsError as unwritable:
            self.halt(str(unwritable))
        self._ended(name)

    def _ended(self, name: str) -> None:
        row = results.outcome(self.folders[name])
        self.listener.finished(name, row)
        if row["status"] == "failed" and self.fail_fast:
            self.stop()


def _reason(trial: Any) -> str:
    """Say why Tune gave a trial up (its worker left no error of its own: it was killed)."""
    error = trial.get_error() if hasattr(trial, "get_error") else None
    return f"the trial's process ended without a result ({type(error).__name__}: {error})" if error else "unknown"


def _pruner(out: Path, folders: Mapping[str, Path]) -> Pruner:
    """Make the rule of early stopping, with what earlier launches saw."""
    from ray.tune.schedulers import ASHAScheduler

    pruner = Pruner(
        ASHAScheduler(time_attr="percent", metric="nll_per_label", mode="min", max_t=100, grace_period=11,
                      reduction_factor=3, stop_last_trials=False)
    )  # fmt: skip
    for folder in sorted((out / "trials").iterdir()):
        pruner.replay(folder)
    return pruner
