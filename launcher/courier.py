"""Trials of a study on another file system: each works in a folder of its own node, and what is whole there is sent at once.

A worker begins with what is there of its trial (checkpoints, scores of the start) and sends while it trains: files as
they are replaced, a checkpoint once it is sealed. A trial is done when its result.json is there, which is sent last.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher import leftovers
from launcher.copies import work_folder
from launcher.mirror import Mirror
from launcher.places import Place
from launcher.retries import at_length, repeated
from launcher.sending import HERE, SENT, Sender, checkpoint, take_wishes

_TURN_SECONDS = 5.0
_PATHS = ("folder", "stop_file", "tensorboard", "audits")

Job = Mapping[str, Any]


def named(job: Job) -> Job:
    """Give an attempt a name, under which the workers of one node share a folder."""
    return {**job, "attempt_name": uuid.uuid4().hex[:8]} if job.get("uri") else job


@contextmanager
def beside(job: Job) -> Iterator[tuple[Job, Place]]:
    """Have what decides about a trial at hand, for the process that drives it: all but weights.

    Yields:
        the job with paths of this node, and the place that they are in; of a local study as they are.
    """
    if not job.get("uri"):
        yield job, Place(Path(job["folder"]))
        return
    folder = _base(job) / f"drive-{job['trial_id']}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    try:
        place = Place(folder, job["uri"])
        near = _moved(job, folder)
        at_length(lambda: place.fetch(_trial(job)))
        yield near, place
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refresh(job: Job, place: Place) -> None:
    """Look what became of a trial there, and whether the study is to stop.

    Args:
        job: with paths of this node.
        place: as `beside` gave it.
    """
    if place.uri is not None:
        at_length(lambda: place.fetch(_trial(job)))
        at_length(lambda: take_wishes(place.mirror, [Path(job["stop_file"])]))


@contextmanager
def at_work(job: Job, rank: int) -> Iterator[Job]:
    """Have a trial at hand for a worker; what it writes is sent while it works and when it ends.

    Args:
        job: as `named` made it.
        rank: of the worker; the first one sends.

    Yields:
        the job with paths of this node; of a local study as it is.

    Raises:
        StorageError: something cannot be read or sent.
        Superseded: another attempt has begun meanwhile.
    """
    if not job.get("uri"):
        yield job
        return
    base = _base(job)
    base.mkdir(parents=True, exist_ok=True)
    folder = base / f"{job['trial_id']}-{job['attempt_name']}"
    with _unswept(lock := base / f"{folder.name}{leftovers.LOCK}"):
        mirror = Mirror(job["uri"], folder)
        at_length(lambda: _prepared(job, mirror))
        near = {**_moved(job, folder), "store": at_length(lambda: _store(job))}
        if rank != 0:
            yield near
            return
        mirror.keep(folder / SENT)  # should this process be killed: whoever comes next sends the rest
        courier = Sender(job["trial_id"], near, mirror)
        try:
            with repeated(courier.turn, _TURN_SECONDS):
                yield near
        finally:
            courier.last()  # also why it failed
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)


@contextmanager
def _unswept(path: Path) -> Iterator[None]:
    """Hold the lock of an attempt: nobody sweeps its folder while one of its workers lives."""
    while True:
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if leftovers.is_there(lock, path):  # else it was swept before it was held
                yield
                return


def _prepared(job: Job, mirror: Mirror) -> None:
    """Copy what the trial goes on from, once for all workers of this node; what is on it alone is sent before."""
    mirror.folder.mkdir(parents=True, exist_ok=True)
    here = mirror.folder / HERE
    with (mirror.folder / ".copying").open("a") as copying:
        fcntl.flock(copying, fcntl.LOCK_EX)
        if here.is_file():
            mirror.recall(here)  # another worker of this node has copied it
            return
        leftovers.see_to(job["uri"], _base(job), spare=mirror.folder)
        trial = _trial(job)
        there = mirror.listing(trial)
        sealed = {checkpoint(name) for name in there if name.endswith("/sealed.json")}
        mirror.pull(
            trial, lambda name: "/model/" not in name and (checkpoint(name) is None or checkpoint(name) in sealed)
        )
        mirror.pull("audits")
        mirror.keep(here)


def _store(job: Job) -> str:
    """Return the folder of the prepared data; one inside of the study is copied once per node."""
    path, out = Path(job["store"]), Path(job["out"])
    if not path.is_relative_to(out):
        return str(path)
    near = _base(job) / path.relative_to(out)
    near.parent.mkdir(parents=True, exist_ok=True)
    with (near.parent / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Mirror(job["uri"], _base(job), _base(job) / "stores.json").pull("stores")
    return str(near)


def _base(job: Job) -> Path:
    return work_folder(job["uri"])


def _trial(job: Job) -> str:
    return f"trials/{job['trial_id']}"


def _moved(job: Job, folder: Path) -> dict[str, Any]:
    """Return the job with its paths below another folder."""
    out = Path(job["out"])
    moved = {name: job[name] and str(folder / Path(job[name]).relative_to(out)) for name in _PATHS}
    return {**job, **moved, "out": str(folder)}
