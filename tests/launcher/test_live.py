from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from launcher import folder, live, results
from tests.launcher.studies import ONE_ATTEMPT, checkpoint, finished, locked, put

OPEN = {**ONE_ATTEMPT, "open": True}
NOBODY = live.Holder(False)


def test_a_lock_is_seen_while_it_is_held_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert live.holder(path).held is False
    with locked(path):
        assert (live.holder(path).held, live.holder(path).words) == (True, "process 7 on ward")
    assert live.holder(path).held is False


def test_looking_at_a_lock_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 7")
    before = (tmp_path / ".lock").stat()
    live.holder(tmp_path / ".lock")
    after = (tmp_path / ".lock").stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)
    live.holder(tmp_path / "nowhere" / ".lock")
    assert not (tmp_path / "nowhere").exists()


def test_a_launch_is_not_disturbed_by_who_looks_at_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looker = (tmp_path / ".lock").open("w+")
    fcntl.flock(looker, fcntl.LOCK_SH)  # the instant of `live.holder`
    monkeypatch.setattr(folder.time, "sleep", lambda seconds: looker.close())
    with folder.held(tmp_path, wanted=True):
        assert live.holder(tmp_path / ".lock").held


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({}, "pending"),
        ({"attempts": OPEN}, "interrupted"),
        ({"attempts": ONE_ATTEMPT}, "interrupted"),
        ({"attempts": OPEN, "failure": {"error": "ValueError: no"}}, "failed"),
        ({"attempts": OPEN, "result": finished()}, "done"),
    ],
)
def test_without_a_holder_nothing_runs(tmp_path: Path, files: dict, status: str) -> None:
    put(tmp_path, "a", **files)
    assert live.outcome(results.trial_folder(tmp_path, "a"), NOBODY)["status"] == status


def test_a_trial_whose_worker_holds_it_runs_even_when_its_launch_was_killed(tmp_path: Path) -> None:
    place = put(tmp_path, "a", attempts=OPEN, progress={"update": 12, "updates": 99, "seconds": 3.5, "wer": 0.5})
    with locked(place / ".lock"):
        row = live.outcome(place, NOBODY)
    assert (row["status"], row["update"], row["updates"], row["wer"]) == ("running", 12, 99, 0.5)


def test_while_a_process_is_replaced_the_trial_still_runs(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock"):
        place = put(tmp_path, "a", attempts=OPEN)
        assert live.outcome(place, live.holder(tmp_path / ".lock"))["status"] == "running"


def test_a_trial_that_an_earlier_launch_left_waits_while_another_launch_runs(tmp_path: Path) -> None:
    place = put(tmp_path, "a", attempts=OPEN)
    os.utime(place / "attempts.json", ns=(1, 1))
    with locked(tmp_path / ".lock"):
        assert live.outcome(place, live.holder(tmp_path / ".lock"))["status"] == "interrupted"


def test_an_interrupted_trial_is_where_its_newest_whole_checkpoint_is(tmp_path: Path) -> None:
    place = put(tmp_path, "a", attempts=ONE_ATTEMPT, progress={"update": 70, "updates": 99})
    assert live.outcome(place, NOBODY)["update"] == 0
    checkpoint(place, 9, 99)
    checkpoint(place, 40, 99)
    checkpoint(place, 60, 99, sealed=False)
    row = live.outcome(place, NOBODY)
    assert (row["update"], row["updates"]) == (40, 99)


def test_progress_of_an_earlier_attempt_is_not_that_of_the_present_one(tmp_path: Path) -> None:
    place = put(tmp_path, "a", attempts=OPEN, progress={"update": 70, "updates": 99})
    os.utime(place / "progress.json", ns=(1, 1))
    assert live.progress(place) == {}
