"""What a trial cost is the time of all its attempts, and what was not noted is counted as unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import attempts, results

RESULT = {"status": "done", "seconds": 100.0, "workers": 2}


def told(folder: Path, result: dict[str, Any] | None = None, at: str | None = None, **record: Any) -> list[Any]:
    """Return device seconds, those of earlier attempts, and how many attempts are not in them."""
    (folder / "attempts.json").write_text(json.dumps({"open": False, "launch": "one", "ended": [], **record}))
    for name, content in (("result", result), ("progress", {"at": at} if at else None)):
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    row = results.outcome(folder)
    return [row[name] for name in ("device_seconds", "earlier_device_seconds", "untimed_attempts")]


def took(*seconds: float, workers: int = 2) -> list[dict[str, Any]]:
    return [{"attempt": place, "seconds": one, "workers": workers} for place, one in enumerate(seconds, start=1)]


def test_every_attempt_counts_with_its_own_workers(tmp_path: Path) -> None:
    times = [*took(10, 20), {"attempt": 3, "seconds": 101.0, "workers": 1}]
    assert told(tmp_path, RESULT, attempts=3, took=times) == [161.0, 60.0, 0]


def test_a_trial_that_failed_took_its_time_too(tmp_path: Path) -> None:
    (tmp_path / "failure.json").write_text('{"error": "x", "class": "error"}')
    assert told(tmp_path, attempts=2, took=took(10, 20)) == [60.0, 20.0, 0]


def test_of_a_trial_of_an_earlier_version_the_last_attempt_alone_is_known(tmp_path: Path) -> None:
    assert told(tmp_path, RESULT, attempts=3) == [200.0, 0, 2]


def test_a_trial_that_was_never_timed_has_no_time_and_says_so(tmp_path: Path) -> None:
    assert told(tmp_path, attempts=2) == [None, None, 2]
    assert told(tmp_path, attempts=0) == [None, None, 0]


def test_an_open_attempt_counts_up_to_when_it_was_last_heard_of(tmp_path: Path) -> None:
    record = {"attempts": 2, "open": True, "started": "2026-01-01T12:00:00.000+00:00", "workers": 4, "took": took(10)}
    assert told(tmp_path, **record) == [20.0, 20.0, 1]
    assert told(tmp_path, at="2026-01-01T11:59:00.000+00:00", **record) == [20.0, 20.0, 1]  # of the attempt before
    assert told(tmp_path, at="2026-01-01T12:00:30.500+00:00", **record) == [142.0, 20.0, 0]


def test_an_attempt_whose_process_was_killed_ends_when_that_was_noticed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(attempts, "_now", lambda: "2026-01-01T12:01:00+00:00")
    for started, times in (("12:00:00.250", took(59.75)), ("12:01:01.000", [])):  # the clock of the worker goes ahead
        record = {"attempts": 1, "open": True, "launch": "one", "started": f"2026-01-01T{started}+00:00", "workers": 2}
        (tmp_path / "attempts.json").write_text(json.dumps(record))
        attempts.settle(tmp_path, "one", RuntimeError("the actor died"))
        assert results.attempts(tmp_path)["took"] == times
        assert not results.attempts(tmp_path)["open"]


def test_one_that_could_not_even_begin_took_nothing(tmp_path: Path) -> None:
    attempts.settle(tmp_path, "one", RuntimeError("no room"))
    assert results.attempts(tmp_path)["took"] == []
    assert results.outcome(tmp_path)["untimed_attempts"] == 0


@pytest.mark.parametrize(
    "times", [[{}], [{"attempt": 1, "seconds": "x", "workers": 1}], [{"attempt": [], "seconds": 1}]]
)
def test_times_that_are_none_are_told(tmp_path: Path, times: list[Any]) -> None:
    with pytest.raises(results.ResultsError, match=r"tells of times that are none .*; ask for it anew"):
        told(tmp_path, attempts=1, took=times)
