"""Who runs a study on another file system: an object there that is renewed, and a lock here that stands for it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from launcher import provenance
from launcher.mirror import Mirror
from launcher.results import ResultsError
from launcher.retries import StorageError, repeated

NAME = ".lock"
_CLOCK = ".clock"
_SETTLED_SECONDS, _RENEWED_SECONDS, _LAPSED_SECONDS = 1.0, 20.0, 90.0


class TakenOver(StorageError):
    """Another launch runs the study since: what this one would write is of a state that is past."""

    may_pass, exit_code = False, 130


class Lease:
    """Holds a study on another file system for one launch: an object that is renewed, and lapses when nobody does so.

    Two launches that begin within the same second may both see no lease; each looks again after it wrote its own.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror, self._id, self._lost = mirror, uuid.uuid4().hex, False
        self._said: dict[str, Any] = {
            "id": self._id,
            "who": f"process {os.getpid()} on {provenance.host()}",
            "since": 0,
            "pid": os.getpid(),
            **_machine(),
        }

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it within the block."""
        before = self._mirror.stamps([NAME]).get(NAME)
        if before is not None and not _is_dead(said := _said(self._mirror)):
            lapse = _LAPSED_SECONDS - self._age(before.time)
            if lapse > 0:
                raise ResultsError(
                    f"{self._mirror.shown} is in use by {said.get('who', 'another launch')}; wait for it, or give "
                    f"another --out. If that process was killed, it is free in {lapse:.0f} s"
                )
        self._write()
        time.sleep(_SETTLED_SECONDS)  # another launch that saw no lease either has written its own by then
        if not self._is_ours():
            raise ResultsError(f"{self._mirror.shown}: another launch was faster; wait for it, or give another --out")
        # By the clock there, which also says when an attempt began.
        self._said["since"] = self._mirror.stamps([NAME])[NAME].time
        self._write()
        try:
            with repeated(self._renew, _RENEWED_SECONDS):
                yield
        finally:
            self._give_back()

    def check(self) -> None:
        """Look whether the study is still held.

        Raises:
            TakenOver: it is not.
        """
        if self._lost or not self._is_ours():
            raise TakenOver(
                f"{self._mirror.shown}: another launch has taken this study over while this one was not heard of; it "
                "goes on with what is there"
            )

    def _give_back(self) -> None:
        """Free the study, also when the launch failed; why it did is what is to be told, not that the network is gone."""
        try:
            if self._is_ours():
                self._mirror.remove([NAME])
        except StorageError as error:
            print(f"{error}; it is free in {_LAPSED_SECONDS:.0f} s", file=sys.stderr)

    def _write(self) -> None:
        self._mirror.write(NAME, json.dumps(self._said).encode())

    def _is_ours(self) -> bool:
        return _said(self._mirror).get("id") == self._id

    def _renew(self) -> None:
        if self._lost:
            return  # a second signal would end trials at once
        if self._is_ours():
            self._write()
            return
        self._lost = True
        print("another launch has taken this study over; this one stops", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C: trials stop behind a checkpoint

    def _age(self, written: int) -> float:
        """Return how long ago something was written there, in seconds of the clock there."""
        name = f"{_CLOCK}-{self._id}"
        self._mirror.write(name, b"")
        now = self._mirror.stamps([name])[name].time
        self._mirror.remove([name])
        return (now - written) / 1e9


def _machine() -> dict[str, str]:
    """Name the space of process numbers that this process is in."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {"boot": boot, "space": os.readlink("/proc/self/ns/pid")}
    except OSError:  # no Linux
        return {}


def _is_dead(said: Mapping[str, Any]) -> bool:
    """Tell whether a launch ran on this machine and runs no more; of others nobody here knows."""
    here = _machine()
    same = bool(here) and all(said.get(name) == value for name, value in here.items())
    return same and not psutil.pid_exists(said["pid"])


def _said(mirror: Mirror) -> Mapping[str, Any]:
    return json.loads(mirror.read(NAME) or b"{}")


def holder(mirror: Mirror) -> Mapping[str, Any]:
    """Read who runs a study there; empty when nobody does. Without the right to write, by the clock of this machine."""
    stamp = mirror.stamps([NAME]).get(NAME)
    return _said(mirror) if stamp is not None and time.time() - stamp.time / 1e9 < _LAPSED_SECONDS else {}


class Stand:
    """Stands in for the launch that runs on another machine: holds the lock that readers of local studies look at."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, None

    def __enter__(self) -> Stand:
        return self

    def __exit__(self, *_: object) -> None:
        self.set({})

    def set(self, holder: Mapping[str, Any]) -> None:
        """Hold the lock in the name of a launch, or let it go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if holder:
            self._lock = self._path.open("w+", encoding="utf-8")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._lock.write(f"{holder['who']}\n")
            self._lock.flush()
            os.utime(self._path, ns=(holder["since"], holder["since"]))
