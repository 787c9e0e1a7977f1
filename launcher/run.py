"""From a study to finished trials: the only module that imports ray.tune.

Ray Tune schedules; each trial is a Tune function that wraps the training function in a `TorchTrainer` (`--backend train`)
or calls it itself (`--backend tune`). What a trial measured is in its folder; Ray's own results are not read.
"""

from __future__ import annotations

import functools
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.schedulers import FIFOScheduler

from launcher import attempts, courier, draining, preflight, results, retries, storage, waiting, working
from launcher.attempts import Verdict
from launcher.cluster import DRIVER, DRIVER_CPUS, Cluster, Sizing
from launcher.following import Follower, Listener
from launcher.guard import Guard
from launcher.interrupts import two_interrupts
from launcher.memory import MemoryWatch
from launcher.places import Place
from launcher.pruning import Pruner

MAX_TRIAL_FAILURES = 12
"""How often Tune replaces the process that drives a trial; `launcher.attempts` gives up long before."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        interrupted: somebody asked for the end (Ctrl-C).
        halted: why nothing could be written any more; None: all went well.
        unfit: why no node may run trials any more; None: some may.
    """

    interrupted: bool
    halted: str | None
    unfit: str | None = None


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
    place: Place,
    guard: Guard | None = None,
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
        place: the study.
        guard: keeps trials off nodes; None: any node will do.
    """
    folders = {job["trial_id"]: Path(job["folder"]) for job in jobs}
    pruner = _pruner(stop_file.parent, folders) if early_stopping else None
    watcher = _Watcher(stop_file, fail_fast, listener, folders, pruner, place, guard)
    driver: dict[str, float] = {DRIVER: 1} if cluster.has_driver_resource else {"CPU": DRIVER_CPUS}
    is_shared = cluster.address is not None  # nobody takes away the machine that launches, or works there
    told = guard.told if guard is not None else None
    more = {"may_drain": is_shared, "waits": is_shared, "preflight": told, "refused": sorted(cluster.refused)}
    handed = _Jobs(ray.put({job["trial_id"]: {**job, **more} for job in jobs}))
    bundle = driver if backend == "train" else sizing.device
    request = functools.partial(_request, bundle=bundle, out=place.folder if told is not None else None)
    drive = functools.partial(_drive, jobs=handed, train_fn=train_fn, sizing=sizing, backend=backend)
    with tempfile.TemporaryDirectory(prefix="lossgrid-tune-") as scratch, two_interrupts(watcher.interrupt):
        tuner = tune.Tuner(
            tune.with_resources(drive, request),
            param_space={"trial_id": tune.grid_search([job["trial_id"] for job in jobs])},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=sizing.max_concurrent, reuse_actors=True, scheduler=_Scheduler(request, watcher)
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                name="study",
                verbose=0,
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=MAX_TRIAL_FAILURES),
            ),
        )
        tuner.fit()
    return Outcome(watcher.interrupted, watcher.halted, watcher.unfit)


def _request(cell: Mapping[str, Any], *, bundle: dict[str, float], out: Path | None) -> tune.PlacementGroupFactory:
    """Say what the process of a trial asks Ray for, and which nodes it stays off.

    Args:
        cell: the trial; all ask for the same.
        bundle: resources.
        out: folder with the record of the nodes; None: any will do.
    """
    labels = preflight.selector(preflight.refused_in(out)) if out is not None else {}
    only: dict[str, Any] = {"bundle_label_selector": [labels]} if labels else {}
    return tune.PlacementGroupFactory([bundle], **only)


class _Scheduler(FIFOScheduler):
    """First come, first served.

    A trial that comes again stays off nodes that were refused since; one that waits for its machine when the study stops
    ends there: nobody else would tell it.
    """

    def __init__(self, request: Callable[[Mapping[str, Any]], tune.PlacementGroupFactory], watcher: Follower) -> None:
        super().__init__()
        self._request, self._watcher = request, watcher

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Place the trial anew; one that ends with this error is not placed again."""
        super().on_trial_error(tune_controller, trial)
        if trial.status == trial.ERROR:
            trial.update_resources(self._request(trial.config))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Choose the next one."""
        if self._watcher.is_stopping:
            for trial in tune_controller.get_trials():
                if trial.status == trial.PENDING:
                    trial.init_local_path()  # what Tune does before it places a trial, and asks for when one ends
                    tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)


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
    """Run one trial inside its Tune actor; a folder that cannot be read or written to is told to the launch."""
    job = jobs[cell["trial_id"]]
    try:
        preflight.admit(job, works=backend == "tune")
        with courier.beside(job) as (near, place):
            verdict = _attempt(job, near, place, train_fn, sizing, backend)
            reason = attempts.reason(Path(near["folder"])) if verdict is Verdict.HALT else ""
    except preflight.Unfit as unfit:
        _tell_unfit(dict([unfit.args]))
        raise _Moved(f"{job['trial_id']} does not begin on a node that is not fit: {unfit.args[1]}") from unfit
    except (results.ResultsError, OSError) as unwritable:
        if isinstance(unwritable, OSError) and not storage.concerns(unwritable):
            raise
        verdict, reason = Verdict.HALT, str(unwritable)
    if verdict is Verdict.HALT:
        tune.report({"status": verdict.name, "reason": reason})


def _attempt(
    job: Mapping[str, Any], near: Mapping[str, Any], place: Place, train_fn: str, sizing: Sizing, backend: str
) -> Verdict:
    """Attempt a trial from its last checkpoint until it ends or is to stop.

    Args:
        job: as the launch made it.
        near: the same with paths of this node.
        place: that these paths are in.
        train_fn: "module:function".
        sizing: what its workers get.
        backend: "train" or "tune".
    """
    folder, launch = Path(near["folder"]), job["launch"]
    verdict = attempts.after_a_kill(folder, launch)
    retries.at_length(place.send)
    courier.refresh(near, place)
    while verdict is Verdict.AGAIN and not Path(near["stop_file"]).exists():
        if backend == "tune" and draining.here(job):  # Tune gives the next trial to a process that is idle
            raise _Moved(f"{job['trial_id']} does not begin on a node that is taken away")
        if backend == "train" and not waiting.has_room(
            job, sizing, lambda status: tune.report({"status": status}), lambda: _is_stopped(near, place)
        ):
            break
        error, memory, before = None, MemoryWatch(), results.attempts(folder)["attempts"]
        try:
            if backend == "tune":
                working.work(courier.named(job), train_fn, _TuneSession())
            else:
                _train(job, train_fn, sizing)
        except Exception as raised:
            error = raised
        courier.refresh(near, place)
        if unfit := preflight.unfit_nodes(error):
            _tell_unfit(unfit)
            job = {**job, "refused": sorted({*job["refused"], *unfit})}
            continue
        verdict = attempts.settle(folder, launch, error, memory_ran_out=memory.ran_out(), before=before)
        retries.at_length(place.send)
        if verdict is Verdict.AGAIN and backend == "tune":
            if attempts.was_preempted(folder):
                raise _Moved(f"{job['trial_id']} goes on elsewhere: its node is taken away") from error
            raise _Again(f"{job['trial_id']} goes on in a new process: the old one may be damaged") from error
    return verdict


def _is_stopped(near: Mapping[str, Any], place: Place) -> bool:
    courier.refresh(near, place)
    return Path(near["stop_file"]).exists()


def _tell_unfit(unfit: Mapping[str, str]) -> None:
    for node, why in unfit.items():
        tune.report({"status": "UNFIT", "node": node, "reason": why})


class _Again(RuntimeError):
    """Asks Tune for a new process."""


class _Moved(RayActorError):
    """Asks Tune for a process on another node; as with a node that was preempted it does not count (MAX_TRIAL_FAILURES)."""

    def __init__(self, text: str) -> None:
        super().__init__(error_msg=text, preempted=True)


def _train(job: Mapping[str, Any], train_fn: str, sizing: Sizing) -> None:
    from ray import train
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    # A folder of its own: one that all users of a machine share would belong to the first of them.
    with tempfile.TemporaryDirectory(prefix="lossgrid-train-", ignore_cleanup_errors=True) as scratch:
        TorchTrainer(
            working.Worker(train_fn),
            train_loop_config=dict(courier.named(job)),
            scaling_config=train.ScalingConfig(
                num_workers=sizing.workers,
                use_gpu=sizing.use_gpu,
                resources_per_worker=sizing.device,
                placement_strategy=waiting.strategy(job),
                label_selector=preflight.selector(job.get("refused", ())) or None,
            ),
            run_config=train.RunConfig(
                name=f"{job['trial_id']}-{uuid.uuid4().hex[:8]}",  # a name that Train knows would resume its own state
                storage_path=scratch,
                callbacks=[TuneReportCallback()],
                # Why a worker ended decides about another attempt (launcher.attempts), which Train does not ask.
                failure_config=train.FailureConfig(max_failures=0, max_preemption_failures=0),
            ),
        ).fit()


class _TuneSession:
    """Lets the training function report to the Tune actor that it runs in."""

    def report(self, metrics: Mapping[str, Any]) -> None:
        tune.report(dict(metrics))


class _Watcher(Follower, tune.Callback):
    """Follows the trials as Tune tells of them."""


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
