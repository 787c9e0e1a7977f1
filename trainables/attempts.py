"""The attempts at one trial: counted, one at a time, each with the reason why it ended.

`attempts.json` in the folder of the trial: {"attempts": how often it was begun, "open": whether the last one has not ended
(its process runs, or was killed), "launch": the launch that it belonged to, "name": what tells it from one with the same
number on another machine, "started" and "workers": when it began, and with how many, "ended": [{"attempt", "launch", "class",
"error", "time"}], "took": [{"attempt", "seconds", "workers"}], of those whose end is known}. The launcher reads it, and
closes attempts whose process was killed.
"""

from __future__ import annotations

import fcntl
import json
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trainables import failures, progress_file, tables
from trainables.errors import DataError

PRUNE, DRAIN = "prune", "drain.json"
"""Files by which the launcher asks for the end of an attempt: others are ahead of it, or its node is taken away."""
_LAUNCH_ENDED = "launch ended"
_WAIT_SECONDS, _POLL_SECONDS = 120.0, 0.2


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a trial: a process of a launch that was killed may live, and write, a little longer.

    Raises:
        TimeoutError: another process still has it after two minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as lock:
        until = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise TimeoutError(f"{folder} is still in use by a process of an earlier launch") from error
                time.sleep(_POLL_SECONDS)
        yield


def begin(folder: Path, launch: str, name: str = "", *, workers: int = 1) -> int:
    """Count an attempt; an earlier failure no longer stands.

    Args:
        folder: of the trial.
        launch: that the attempt belongs to.
        name: of the attempt; "": this folder is the only one, so that its number tells it from others.
        workers: how many make it.

    Returns:
        how often memory ran out in the attempts so far: the micro-batch is halved as often.
    """
    record = read(folder)
    if record["open"]:  # its launch was killed: nobody was left to say so
        _append(record, _LAUNCH_ENDED, "")
        _close(record, progress_file.last_sign(folder))
    record |= {"attempts": record["attempts"] + 1, "open": True, "launch": launch, "name": name}
    record |= {"started": _now("milliseconds"), "workers": workers}
    # First: an attempt of this launch must not show an old end.
    for ending in ("failure.json", "pruned.json", PRUNE, DRAIN):
        (folder / ending).unlink(missing_ok=True)
    tables.write_json(record, folder / "attempts.json")
    return sum(entry["class"] == failures.OUT_OF_MEMORY for entry in record["ended"])


def end(folder: Path) -> None:
    """Note that the attempt ended as it should: done, pruned, or behind a checkpoint."""
    record = read(folder)
    _close(record, _now("milliseconds"))
    tables.write_json(record, folder / "attempts.json")


def leave(folder: Path, update: int) -> None:
    """Note that the attempt ended behind the checkpoint of an update because a node of it is taken away."""
    record = read(folder)
    _append(record, failures.PREEMPTED, f"{_leaving(folder)}; went behind the checkpoint of update {update}")
    _close(record, _now("milliseconds"))
    tables.write_json(record, folder / "attempts.json")


def fail(folder: Path, error: BaseException) -> bool:
    """Note why the attempt failed; where no other is worth it, write `failure.json`.

    Returns:
        whether the trial has failed for good.
    """
    kind, record, text = failures.classify(error), read(folder), failures.told(error)
    if kind == failures.LOST and (folder / DRAIN).is_file():
        kind, text = failures.PREEMPTED, f"{_leaving(folder)}, before there was a checkpoint: {text}"
    if record["open"]:  # of several workers the first one knows the cause
        _append(record, kind, text)
        _close(record, _now("milliseconds"))
        tables.write_json(record, folder / "attempts.json")
    alike = sum(entry["class"] == kind and entry["launch"] == record["launch"] for entry in record["ended"])
    final = kind not in (failures.STORAGE, failures.PREEMPTED) and alike > failures.RETRIES.get(kind, 0)
    if final and not (folder / "failure.json").is_file():
        failure = {"error": text, "class": kind, "time": _now(), "node": socket.gethostname()}
        failure["traceback"] = "".join(traceback.format_exception(error))
        tables.write_json(failure, folder / "failure.json")
    return final


def read(folder: Path) -> dict[str, Any]:
    """Read what is known of the attempts at a trial.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / "attempts.json"
    try:
        known: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise DataError(
            f"{path} is damaged ({error}); remove it, and the trial goes on from its last checkpoint"
        ) from error
    return {"attempts": 0, "open": False, "launch": "", "name": "", "ended": [], "took": [], **known}


def _leaving(folder: Path) -> str:
    path = folder / DRAIN
    if not path.is_file():  # another worker saw it, and what it wrote is not to be seen here yet
        return "the node of a worker is taken away"
    told = json.loads(path.read_text(encoding="utf-8"))
    return f"node {told['node']} is taken away" + (f" at {told['until']}" if told["until"] else "")


def _append(record: dict[str, Any], kind: str, error: str) -> None:
    entry = {"attempt": record["attempts"], "launch": record["launch"], "class": kind, "error": error, "time": _now()}
    record["ended"] = [*record["ended"], entry]


def _close(record: dict[str, Any], until: str | None) -> None:
    """Note that the last attempt is over and, where beginning and end are known, how long it took."""
    if until is not None and record["open"] and "started" in record:
        seconds = (datetime.fromisoformat(until) - datetime.fromisoformat(record["started"])).total_seconds()
        entry = {"attempt": record["attempts"], "seconds": seconds, "workers": record["workers"]}
        record["took"] = [*record["took"], *([entry] if seconds >= 0 else [])]  # below: a sign of an earlier attempt
    record["open"] = False


def _now(timespec: str = "seconds") -> str:
    return datetime.now(timezone.utc).isoformat(timespec=timespec)
