"""How long the attempts at a trial took, as far as anybody noted it. Pure.

A worker notes when it began; it, or the launcher for one that was killed, notes how long the attempt took.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from launcher.reading import ResultsError


def closed(record: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return what is known of the attempts at a trial with the open one, whose process is gone, closed.

    Args:
        record: content of attempts.json.
        now: the time at which the end was noticed: until then its devices were taken.
    """
    seconds = _between(record.get("started"), now)
    entry = {"attempt": record["attempts"], "seconds": seconds, "workers": record.get("workers", 1)}
    return {**record, "open": False, "took": [*record["took"], *([entry] if seconds is not None else [])]}


def known(folder: Path, record: Mapping[str, Any], result: Mapping[str, Any], at: str | None) -> dict[str, Any]:
    """Tell of the attempts at a trial: how many, how they broke off, and what they took.

    Args:
        folder: of the trial.
        record: content of attempts.json.
        result: content of result.json, which alone knows of the last attempt in trials of earlier versions; may be empty.
        at: when an open attempt was last heard of, if it was.

    Returns:
        attempts, broken_off, device_seconds (seconds x workers of all attempts that are known), earlier_device_seconds (of
        those before the last) and untimed_attempts (how many are not in it).

    Raises:
        ResultsError: the record holds something else than it should.
    """
    kinds = [entry["class"] for entry in record["ended"]]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or None
    last = record["attempts"]
    try:
        took = {entry["attempt"]: float(entry["seconds"]) * int(entry["workers"]) for entry in record["took"]}
        so_far = _between(record.get("started"), at) if record["open"] and at is not None else None
        if last not in took and result.get("seconds") is not None:
            took[last] = float(result["seconds"]) * int(result.get("workers") or 1)
        elif so_far is not None:
            took[last] = so_far * int(record["workers"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ResultsError(
            f"{folder} tells of times that are none ({type(error).__name__}: {error}); ask for it anew, or run the study again"
        ) from error
    return {
        "attempts": last,
        "broken_off": told,
        "device_seconds": sum(took.values()) if took else None,
        "earlier_device_seconds": sum(value for attempt, value in took.items() if attempt != last) if took else None,
        "untimed_attempts": max(0, last - len(took)),
    }


def _between(start: str | None, end: str) -> float | None:
    """Return the seconds between two times; None where the end is that of an earlier attempt, or the start not known."""
    if start is None:
        return None
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    return seconds if seconds >= 0 else None
