"""What the launcher does when an attempt at a trial has ended, or when its process is gone without a word.

The worker writes `attempts.json` (see docs/tables.md) and decides about its own errors; here are the ends that it
could not write down: killed by the system, out of memory, its node lost or taken away.
"""

from __future__ import annotations

from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

from launcher import attempt_times, draining, results, storage
from launcher.retries import StorageError

OUT_OF_MEMORY, LOST, STORAGE, PREEMPTED = "out of memory", "worker lost", "storage", "preempted"
MAX_RETRIES = {OUT_OF_MEMORY: 6, LOST: 3}
"""Further attempts of one launch after the process of a trial was gone; one whose node was taken away counts for nothing."""


class Verdict(Enum):
    """What follows."""

    ENDED = "the trial is done, failed, pruned or stopped behind a checkpoint"
    AGAIN = "another attempt, from the last checkpoint"
    HALT = "nothing can be written: no trial of this study can go on"


def after_a_kill(folder: Path, launch: str) -> Verdict:
    """Decide, in a new process of a trial, what follows from how its last attempt in this launch ended."""
    record = results.attempts(folder)
    begun = record["launch"] == launch
    return settle(folder, launch) if begun else Verdict.AGAIN


def settle(
    folder: Path, launch: str, error: BaseException | None = None, *, memory_ran_out: bool = False, before: int = -1
) -> Verdict:
    """Decide what follows from how an attempt ended.

    Args:
        folder: of the trial.
        launch: the launch that made the attempt; budgets are counted anew in each.
        error: what Ray raised for the process; None: it came back by itself.
        memory_ran_out: whether the system killed a process for memory meanwhile.
        before: attempts that were counted when this one was asked for: where there are no more it could not even begin, and
            what was said of the one before stands for that one only.

    Raises:
        ResultsError: what is known of the attempts cannot be read or written.
    """
    record = results.attempts(folder)
    if _has_ended(folder, began=record["launch"] == launch):
        return Verdict.ENDED
    ended = [entry for entry in record["ended"] if entry["launch"] == launch]
    is_open = record["open"] and record["launch"] == launch
    if not is_open and error is None:
        return _after(ended[-1]["class"] if ended and ended[-1]["attempt"] == record["attempts"] else None)
    said = ended[-1] if ended and ended[-1]["attempt"] == record["attempts"] else {"by": "launcher"}
    if not is_open and record["attempts"] != before and said.get("by") != "launcher":
        return _after(said["class"])  # the worker said why, then its process ended with the error
    kind = OUT_OF_MEMORY if memory_ran_out or _tells_of_memory(error) else LOST
    if is_open and (folder / draining.FILE).is_file():  # memory may have run out on the machine of the driver alone
        kind = PREEMPTED
    if kind == LOST and _tells_of_storage(error):
        kind = STORAGE
    text = "its process was killed" if error is None else " ".join(str(error).split())[:500]
    entry = {"attempt": record["attempts"], "launch": launch, "class": kind, "error": text, "time": _now()}
    entry["by"] = "launcher"
    record = attempt_times.closed(record, entry["time"]) if is_open else {**record, "open": False}
    results.write_json(folder / "attempts.json", {**record, "ended": [*record["ended"], entry]})
    if kind == STORAGE:
        return Verdict.HALT
    alike = sum(before["class"] == kind for before in ended) + 1
    if kind == PREEMPTED or alike <= MAX_RETRIES[kind]:
        return Verdict.AGAIN
    (folder / "failure.json").unlink(missing_ok=True)  # of an earlier launch, where none of this one could begin
    results.record_failure(folder, f"{kind} {alike} times in this launch, last: {text}", kind)
    return Verdict.ENDED


def reason(folder: Path) -> str:
    """Return the error of the last attempt that broke off."""
    return results.attempts(folder)["ended"][-1]["error"]


def was_preempted(folder: Path) -> bool:
    """Tell whether the last attempt broke off because its node was taken away."""
    return results.attempts(folder)["ended"][-1]["class"] == PREEMPTED


def _has_ended(folder: Path, *, began: bool) -> bool:
    """Tell whether a trial has an end; a failure that a launch is to retry is none until an attempt of it has begun."""
    ends = ("result.json", "pruned.json", "failure.json") if began else ("result.json",)
    return any((folder / name).is_file() for name in ends)


def _after(kind: str | None) -> Verdict:
    if kind is None:
        return Verdict.ENDED
    return Verdict.HALT if kind == STORAGE else Verdict.AGAIN


def _tells_of_memory(error: BaseException | None) -> bool:
    """Ray's own memory monitor kills workers before the system does, and says so."""
    return error is not None and ("OutOfMemoryError" in type(error).__name__ or "OutOfMemory" in str(error))


def _tells_of_storage(error: BaseException | None) -> bool:
    """A disk is full or gone, or the file system of the study was away for minutes: another worker would meet that too."""
    if isinstance(error, StorageError):
        return error.may_pass or storage.concerns(error)
    return f"{StorageError.__module__}.{StorageError.__name__}:" in str(error) or storage.concerns(error)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
