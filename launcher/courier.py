"""Trials of a study on another file system: each works in a folder of its own node, and what is whole there is sent at once.

A worker begins with what is there of its trial (checkpoints, scores of the start) and sends while it trains: files as
they are replaced, a checkpoint once it is sealed. A trial is done when its result.json is there, which is sent last.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher import places
from launcher.mirror import Mirror
from launcher.places import Place, cache_folder
from launcher.retries import StorageError, repeated

_TURN_SECONDS = 5.0
_LAST_TRIES = 8
_UNSENT = ".unsent"
"""Marks the folder of an attempt that could not send all: somebody may want what is in it."""
_CHECKPOINT = re.compile(r"^(trials/[^/]+/checkpoints/[^/]+)/")
_SENT = ("trials", "audits", "tensorboard")
_PATHS = ("folder", "stop_file", "tensorboard", "audits")

Job = Mapping[str, Any]


class Superseded(StorageError):
    """Another attempt at this trial has begun: this one was given up for dead, and sends nothing any more."""


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
        place.fetch(_trial(job))
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
        place.fetch(_trial(job))
        _take_wishes(place.mirror, [Path(job["stop_file"])])


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
    with (base / f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # nobody sweeps this folder while one of its workers lives
        mirror = Mirror(job["uri"], folder)
        _sweep(base, spare=folder)
        _prepared(job, mirror)
        near = {**_moved(job, folder), "store": _store(job)}
        if rank != 0:
            yield near
            return
        courier = _Courier(job, near, mirror)
        try:
            with repeated(courier.turn, _TURN_SECONDS):
                yield near
        finally:
            courier.last()  # also why it failed
        shutil.rmtree(folder, ignore_errors=True)
        (base / f"{folder.name}.lock").unlink(missing_ok=True)


class _Courier:
    """Sends what the worker of a trial has written, and brings it the wish to stop."""

    def __init__(self, job: Job, near: Job, mirror: Mirror) -> None:
        self._trial, self._near, self._mirror = _trial(job), near, mirror
        self._sending, self._attempts = mirror.folder / ".sending", f"{self._trial}/attempts.json"
        self._superseded: Superseded | None = None

    def turn(self) -> None:
        """Send once, and look for wishes."""
        if self._superseded is not None:
            return
        wishes = [Path(self._near["stop_file"]), Path(self._near["folder"]) / "prune"]
        try:
            _take_wishes(self._mirror, wishes)
            self._send()
        except Superseded as superseded:
            self._superseded = superseded
            wishes[0].touch()  # its work is for nothing

    def last(self) -> None:
        """Send what is left; a study of a week is not lost to a network that is gone for some minutes.

        Raises:
            StorageError: it cannot be sent.
            Superseded: nothing may be sent any more.
        """
        for left in reversed(range(_LAST_TRIES)):
            if self._superseded is not None:
                raise self._superseded
            try:
                return self._send()
            except Superseded:
                raise
            except StorageError as error:
                if not left:
                    (self._mirror.folder / _UNSENT).touch()
                    raise StorageError(f"{error}; what this attempt made stays in {self._mirror.folder}") from error

    def _send(self) -> None:
        """Send what changed, in the order that makes what is there whole at any moment; then drop what is gone."""
        mirror, held = self._mirror, self._held()
        changed = mirror.changed(_whole(mirror))
        gone = [name for name in mirror.gone() if name not in held]
        if held or changed or gone:
            self._check()
            # That an attempt was begun is told before what it made: without it, the next one would not count this one.
            begun = [name for name in changed if name == self._attempts]
            mirror.push(begun)
            mirror.push(sorted(held, key=places.rank), self._sending)
            mirror.push(sorted(set(changed) - set(begun), key=places.rank))
            mirror.remove(sorted(gone, key=lambda name: not name.endswith("/sealed.json")))
        shutil.rmtree(self._sending, ignore_errors=True)

    def _held(self) -> list[str]:
        """Hold the sealed checkpoints that are to be sent by links: training drops them, perhaps sooner than they are sent."""
        names = []
        shutil.rmtree(self._sending, ignore_errors=True)  # of a turn that failed
        for seal in self._mirror.changed(
            name for name in self._mirror.files("trials") if name.endswith("/sealed.json")
        ):
            files = self._mirror.files(str(checkpoint(seal)))
            try:
                for name in files:
                    (self._sending / name).parent.mkdir(parents=True, exist_ok=True)
                    os.link(self._mirror.folder / name, self._sending / name)
                wanted = json.loads((self._sending / seal).read_text(encoding="utf-8"))["files"]
            except FileNotFoundError:
                continue  # it was dropped just now; a newer one comes at the next turn
            if {f"{checkpoint(seal)}/{name}" for name in wanted} <= set(files):
                names += files
        return names

    def _check(self) -> None:
        """Look whether a later attempt has begun: this one may have been cut off from all but the storage.

        Raises:
            Superseded: it has.
        """
        mine = self._mirror.folder / self._attempts
        if not mine.is_file():
            return
        there = json.loads(self._mirror.read(self._attempts) or b"{}").get("attempts", 0)
        if there > json.loads(mine.read_bytes())["attempts"]:
            raise Superseded(f"{self._trial}: another attempt has begun since; nothing more of this one is kept")


def checkpoint(name: str) -> str | None:
    """Return the checkpoint that a file belongs to; None: it is of none."""
    match = _CHECKPOINT.match(name)
    return match.group(1) if match else None


def _whole(mirror: Mirror) -> list[str]:
    """Name the files of a trial, its audits and its curves that may be sent as they are now; checkpoints are `_held`."""

    def whole(name: str) -> bool:
        if name.startswith("audits/"):
            return (mirror.folder / name).with_name("audit.json").is_file()
        return checkpoint(name) is None and not name.endswith("/prune")

    return [name for part in _SENT for name in mirror.files(part) if whole(name)]


def _take_wishes(mirror: Mirror, paths: list[Path]) -> None:
    """Make here the files that are there."""
    names = {path.relative_to(mirror.folder).as_posix(): path for path in paths}
    for name in mirror.stamps(names):
        names[name].parent.mkdir(parents=True, exist_ok=True)
        names[name].touch()


def _prepared(job: Job, mirror: Mirror) -> None:
    """Copy what the trial goes on from, once for all workers of this node."""
    mirror.folder.mkdir(parents=True, exist_ok=True)
    here = mirror.folder / ".here"
    with (mirror.folder / ".copying").open("a") as copying:
        fcntl.flock(copying, fcntl.LOCK_EX)
        if here.is_file():
            return
        trial = _trial(job)
        there = mirror.listing(trial)
        sealed = {checkpoint(name) for name in there if name.endswith("/sealed.json")}
        mirror.pull(
            trial, lambda name: "/model/" not in name and (checkpoint(name) is None or checkpoint(name) in sealed)
        )
        mirror.pull("audits")
        here.touch()


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


def _sweep(base: Path, *, spare: Path) -> None:
    """Remove what attempts left that were killed: nobody holds their locks."""
    for path in base.glob("*.lock"):
        folder = path.with_suffix("")
        if folder == spare or (folder / _UNSENT).exists():
            continue
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            path.unlink(missing_ok=True)


def _base(job: Job) -> Path:
    return cache_folder(job["uri"]) / "work"


def _trial(job: Job) -> str:
    return f"trials/{job['trial_id']}"


def _moved(job: Job, folder: Path) -> dict[str, Any]:
    """Return the job with its paths below another folder."""
    out = Path(job["out"])
    moved = {name: job[name] and str(folder / Path(job[name]).relative_to(out)) for name in _PATHS}
    return {**job, **moved, "out": str(folder)}
