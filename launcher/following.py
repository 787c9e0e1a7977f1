"""Follow the trials of a run: what Tune tells of them goes to the listener, and their end into the tables."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from launcher import attempts, results, storage, waiting
from launcher.attempts import Verdict
from launcher.guard import Guard
from launcher.places import Place
from launcher.pruning import Pruner
from launcher.retries import StorageError, at_length, first_line

_WISH_SECONDS = 5.0


class Listener(Protocol):
    """Who is told what happens."""

    def started(self, trial_id: str) -> None:
        """Hear that a trial was given its resources."""

    def waiting(self, trial_id: str) -> None:
        """Hear that a trial waits for machines."""

    def reported(self, trial_id: str, metrics: Mapping[str, Any]) -> None:
        """Hear what a running trial reported."""

    def finished(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Hear how a trial ended: its row of the results table."""

    def stopping(self, why: str) -> None:
        """Hear that running trials were asked to stop behind a checkpoint; `why` is empty where somebody asked for it."""


class Follower:
    """Follows the trials for the listener; makes the stop file when they are to end."""

    def __init__(
        self, stop_file: Path, fail_fast: bool, listener: Listener, folders: Mapping[str, Path], pruner: Pruner | None,
        place: Place, guard: Guard | None = None,
    ) -> None:  # fmt: skip
        self.stop_file, self.fail_fast, self.listener, self.folders = stop_file, fail_fast, listener, folders
        self.pruner, self.place, self.interrupted = pruner, place, False
        self.halted: str | None = None
        self.unfit: str | None = None
        self._guard, self._is_stopping = guard, False
        if guard is not None:
            guard.gives_up(self.give_up)

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks for a restore that is never made; what this one holds stays in this process."""
        return {}

    def stop(self, why: str = "") -> None:
        """Ask running trials to stop behind a checkpoint, and waiting ones not to begin; `why` is told."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._touch(self.stop_file)
        self.listener.stopping(why)

    @property
    def is_stopping(self) -> bool:
        """Whether trials that wait are not to begin; also where the file that would tell them cannot be made."""
        return self._is_stopping or self.stop_file.exists()

    def interrupt(self) -> None:
        """Stop because somebody asked for it."""
        self.interrupted = True
        self.stop()

    def halt(self, reason: str) -> None:
        """End the study because its folder cannot be written to."""
        self.halted = self.halted or reason
        self.stop()

    def give_up(self, reason: str) -> None:
        """End the study because no node may run trials."""
        self.unfit = self.unfit or reason
        self.stop()

    def _touch(self, path: Path) -> None:
        """Make a file that trials look for; where none can be made here they meet the same fault and end by themselves."""
        try:
            path.touch()
            self.place.send(path)
        except OSError as error:
            self.halt(f"cannot write {path} ({error.strerror})")
        except StorageError as unreachable:
            print(f"{first_line(unreachable)}; trials hear it once this works again", file=sys.stderr)
            threading.Thread(target=self._send_wish, args=(path,), name="wish", daemon=True).start()
        except results.ResultsError as lost:  # the lease: nothing of this launch counts any more
            self.halt(str(lost))

    def _send_wish(self, path: Path) -> None:
        """Send it as soon as that can be: trials would go on to their end, or to that of the time they were given."""
        while path.is_file():
            try:
                return self.place.wish(path)
            except StorageError:
                time.sleep(_WISH_SECONDS)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Pass on."""
        self.listener.started(trial.config["trial_id"])

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """Pass on; a trial that is behind the others is told to end, one that cannot write ends the study."""
        name = trial.config["trial_id"]
        if result.get("status") == Verdict.HALT.name:
            self.halt(result["reason"])
        elif result.get("status") == "UNFIT" and self._guard is not None:
            try:
                self._guard.refuse(result["node"], result["reason"])
            except results.ResultsError as unwritable:  # the record of the nodes
                self.halt(str(unwritable))
        elif result.get("status") == waiting.WAITING:
            self.listener.waiting(name)
        elif result.get("status") == waiting.RUNNING:
            self.listener.started(name)
        elif "status" not in result:
            self.listener.reported(name, result)
            if self.pruner is not None and self.pruner.is_behind(name, result):
                self._touch(self.folders[name] / "prune")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Read what the trial left in its folder."""
        self._ended(trial.config["trial_id"])

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Note why Tune gave the trial up, unless its worker did so itself; a full disk ends the study, and fails no trial."""
        name = trial.config["trial_id"]
        if storage.concerns(_error(trial)):
            self.halt(_reason(trial))
            return self._ended(name)
        try:
            at_length(lambda: self.place.fetch(f"trials/{name}"))
            results.record_failure(self.folders[name], _reason(trial), attempts.LOST)
            at_length(self.place.send)
        except results.ResultsError as unwritable:
            self.halt(str(unwritable))
        self._ended(name)

    def _ended(self, name: str) -> None:
        try:
            at_length(lambda: self.place.fetch(f"trials/{name}"))
        except results.ResultsError as unreachable:
            self.halt(str(unreachable))
        row = results.outcome(self.folders[name])
        self.listener.finished(name, row)
        if row["status"] == "failed" and self.fail_fast:
            self.stop(f"{name} failed (--fail-fast)")


def _reason(trial: Any) -> str:
    """Say why Tune gave a trial up (its worker left no error of its own: it was killed)."""
    error = _error(trial)
    return f"the trial's process ended without a result ({type(error).__name__}: {error})" if error else "unknown"


def _error(trial: Any) -> BaseException | None:
    return trial.get_error() if hasattr(trial, "get_error") else None
