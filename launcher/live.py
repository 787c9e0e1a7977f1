"""What becomes of the trials of a study while they run: read from their folder alone, in nobody's way.

Who runs is known by locks: a launch holds OUT/.lock, the worker of a trial the .lock in the folder of its trial. A shared
lock that is tried for an instant tells whether one is held, also over NFS; launches and workers try again when that instant
meets them.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import results

LOCK = ".lock"
_PROGRESS = ("update", "updates", "seconds", "wer", "cer", "nll_per_label")


@dataclass(frozen=True)
class Holder:
    """Who holds a lock file.

    Attributes:
        held: whether anybody does; None: that cannot be told here.
        words: what the holder wrote into it, or why it cannot be told.
        since: when it was written, in nanoseconds of the file system's clock.
    """

    held: bool | None
    words: str = ""
    since: int = 0


def holder(path: Path) -> Holder:
    """Look who holds a lock file; reads only, waits for nothing."""
    try:
        with path.open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Holder(True, lock.read().strip(), os.fstat(lock.fileno()).st_mtime_ns)
            return Holder(False)
    except FileNotFoundError:
        return Holder(False)
    except OSError as error:
        return Holder(None, f"{path} cannot be tested ({error.strerror})")


def outcome(folder: Path, study: Holder) -> dict[str, Any]:
    """Read what became of a trial, and where it is while it runs.

    Args:
        folder: of the trial.
        study: who runs its study.

    Returns:
        what `results.outcome` tells; the status `running` where it does, with update, updates, seconds and the last
        scores; of one that stopped, update (0 without a checkpoint) and, if known, updates.
    """
    try:
        return _outcome(folder, study)
    except FileNotFoundError:  # the trial goes on: it dropped a file between two looks, so look again
        return _outcome(folder, study)


def _outcome(folder: Path, study: Holder) -> dict[str, Any]:
    row = results.outcome(folder)
    if row["status"] != "interrupted":
        return row
    if _runs(folder, study):
        return {**row, "status": "running", **progress(folder)}
    return {**row, **saved(folder)}


def progress(folder: Path) -> dict[str, Any]:
    """Read how far the present attempt at a trial is; empty before its first update."""
    try:
        content = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        fresh = (folder / "progress.json").stat().st_mtime_ns >= (folder / "attempts.json").stat().st_mtime_ns
    except FileNotFoundError:
        return {}
    return {name: content[name] for name in _PROGRESS if name in content} if fresh else {}


def saved(folder: Path) -> dict[str, Any]:
    """Read from which update a trial would go on: that of its newest whole checkpoint."""
    whole = [path.parent for path in (folder / "checkpoints").glob("checkpoint-*/sealed.json")]
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    if newest is None:
        return {"update": 0}
    state: Mapping[str, Any] = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    return {"update": int(newest.name.rpartition("-")[2]), "updates": state.get("max_steps")}


def _runs(folder: Path, study: Holder) -> bool:
    """Tell whether a trial that has begun and not ended is at work, or its process is just being replaced."""
    record = results.attempts(folder)
    if not record["open"]:
        return False
    begun_by_it = study.held and (folder / "attempts.json").stat().st_mtime_ns >= study.since
    return bool(begun_by_it) or holder(folder / LOCK).held is True
