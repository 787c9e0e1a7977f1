"""What follows when an attempt at a trial has ended, and when its process was killed."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from launcher import attempts, results
from launcher.attempts import Verdict
from launcher.memory import MemoryWatch
from launcher.retries import StorageError


def write(folder: Path, kinds: list[str] | None = None, *, is_open: bool, number: int = 1, launch: str = "one") -> Path:
    ended = [
        {"attempt": place + 1, "launch": "one", "class": kind, "error": kind, "time": ""}
        for place, kind in enumerate(kinds or [])
    ]
    content = {"attempts": number, "open": is_open, "launch": launch, "ended": ended}
    (folder / "attempts.json").write_text(json.dumps(content))
    return folder


def classes(folder: Path) -> list[str]:
    return [entry["class"] for entry in results.attempts(folder)["ended"]]


@pytest.mark.parametrize("name", ["result.json", "failure.json", "pruned.json"])
def test_a_trial_with_an_end_has_ended_whatever_ray_says(tmp_path: Path, name: str) -> None:
    write(tmp_path, is_open=True)
    (tmp_path / name).write_text("{}")
    assert attempts.settle(tmp_path, "one", RuntimeError("late")) is Verdict.ENDED
    assert classes(tmp_path) == []


def test_a_trial_that_stopped_behind_a_checkpoint_has_ended(tmp_path: Path) -> None:
    assert attempts.settle(write(tmp_path, is_open=False), "one") is Verdict.ENDED
    assert results.outcome(tmp_path)["status"] == "interrupted"


def test_a_lost_worker_is_replaced_three_times_and_then_the_trial_fails(tmp_path: Path) -> None:
    for number in range(1, 5):
        record = {**results.attempts(tmp_path), "attempts": number, "open": True, "launch": "one"}
        (tmp_path / "attempts.json").write_text(json.dumps(record))
        verdict = attempts.settle(tmp_path, "one", RuntimeError("the actor died"))
        assert verdict is (Verdict.AGAIN if number < 4 else Verdict.ENDED)
    row = results.outcome(tmp_path)
    assert (row["status"], row["failure"], row["broken_off"]) == ("failed", "worker lost", "4 worker lost")
    assert row["error"] == "worker lost 4 times in this launch, last: the actor died"


def test_a_process_that_could_not_even_begin_is_not_started_for_ever(tmp_path: Path) -> None:
    verdicts = [attempts.settle(tmp_path, "one", RuntimeError("no room")) for _ in range(4)]
    assert verdicts == [Verdict.AGAIN] * 3 + [Verdict.ENDED]


def test_a_new_launch_has_a_budget_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, ["worker lost"] * 3, is_open=True, number=4, launch="two")
    assert attempts.settle(tmp_path, "two", RuntimeError("the actor died")) is Verdict.AGAIN


def test_an_attempt_that_another_launch_left_open_is_begun_again(tmp_path: Path) -> None:
    write(tmp_path, is_open=True)
    assert attempts.after_a_kill(tmp_path, "two") is Verdict.AGAIN
    assert classes(tmp_path) == []


def test_a_new_process_of_the_same_launch_finds_that_the_old_one_was_killed(tmp_path: Path) -> None:
    write(tmp_path, is_open=True)
    assert attempts.after_a_kill(tmp_path, "one") is Verdict.AGAIN
    assert classes(tmp_path) == ["worker lost"]


@pytest.mark.parametrize(
    "error",
    [
        StorageError("s3://b cannot be read: AWS Error NETWORK_CONNECTION"),
        RuntimeError(
            "Training failed ...\nlauncher.retries.StorageError: s3://b cannot be read: AWS Error ACCESS_DENIED"
        ),
    ],
)
def test_a_worker_that_cannot_reach_the_storage_halts_the_study_and_fails_no_trial(
    tmp_path: Path, error: Exception
) -> None:
    write(tmp_path, is_open=True)
    assert attempts.settle(tmp_path, "one", error) is Verdict.HALT
    assert classes(tmp_path) == ["storage"]
    assert not (tmp_path / "failure.json").exists()


FULL = OSError(errno.ENOSPC, "No space left on device", "/tmp/lossgrid-train-x")


def caused_by(cause: BaseException) -> RuntimeError:
    error = RuntimeError("the workers could not be started")
    error.__cause__ = cause
    return error


class OutOfDiskError(Exception):
    """Called as Ray calls its own."""


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        caused_by(FULL),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.ESTALE, "Stale file handle"),
        RuntimeError("Training failed ...\nOSError: [Errno 122] Disk quota exceeded: 'attempts.json'"),
        RuntimeError("ray::Worker() ... OSError: [Errno 5] Input/output error"),
        RuntimeError("ArrowInvalid: [errno 28] Error writing bytes to file"),
        OutOfDiskError("Local disk is full"),
    ],
)
def test_a_disk_that_is_full_or_gone_around_a_trial_halts_the_study_at_once(tmp_path: Path, error: Exception) -> None:
    # It could not even begin: nothing of it is known but the error.
    assert attempts.settle(tmp_path, "one", error, before=0) is Verdict.HALT
    assert classes(tmp_path) == ["storage"]
    assert not (tmp_path / "failure.json").exists()
    assert attempts.reason(tmp_path) == " ".join(str(error).split())


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "gone"), RuntimeError("[Errno 104] Connection reset by peer"), caused_by(OSError())]
)  # fmt: skip
def test_other_errors_of_the_system_are_those_of_a_lost_worker(tmp_path: Path, error: Exception) -> None:
    assert attempts.settle(tmp_path, "one", error, before=0) is Verdict.AGAIN
    assert classes(tmp_path) == ["worker lost"]


def test_what_the_worker_said_itself_stands_and_is_not_counted_twice(tmp_path: Path) -> None:
    write(tmp_path, ["error"], is_open=False)
    assert attempts.settle(tmp_path, "one", RuntimeError("raised again")) is Verdict.AGAIN
    assert attempts.settle(tmp_path, "one") is Verdict.AGAIN
    assert classes(tmp_path) == ["error"]


def test_a_folder_that_cannot_be_written_to_halts_the_study(tmp_path: Path) -> None:
    assert attempts.settle(write(tmp_path, ["storage"], is_open=False), "one") is Verdict.HALT


class OutOfMemoryError(RuntimeError):
    """Called as Ray calls its own."""


@pytest.mark.parametrize(("error", "killed"), [(OutOfMemoryError("node is low"), False), (RuntimeError("died"), True)])
def test_a_process_that_was_killed_for_memory_is_told_from_a_lost_one(tmp_path: Path, error, killed: bool) -> None:
    write(tmp_path, is_open=True)
    assert attempts.settle(tmp_path, "one", error, memory_ran_out=killed) is Verdict.AGAIN
    assert classes(tmp_path) == ["out of memory"]


def test_kills_for_memory_are_read_from_the_counters_of_the_system(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 12\nmax 3\noom 1\noom_kill 4\n")
    watch = MemoryWatch((events, tmp_path / "absent"))
    assert not watch.ran_out()
    events.write_text("low 0\noom_kill 5\n")
    assert watch.ran_out()


@pytest.mark.parametrize("name", ["failure.json", "pruned.json"])
def test_an_end_that_an_earlier_launch_left_is_none_for_a_launch_that_runs_the_trial_again(tmp_path, name: str) -> None:
    write(tmp_path, ["error"], is_open=False)
    (tmp_path / name).write_text('{"error": "of old"}')
    verdicts = [attempts.settle(tmp_path, "two", RuntimeError("no node has room")) for _ in range(4)]
    assert verdicts == [Verdict.AGAIN] * 3 + [Verdict.ENDED]
    assert results.outcome(tmp_path)["error"] == "worker lost 4 times in this launch, last: no node has room"


def test_an_end_that_cannot_be_written_down_is_told_and_not_taken_for_a_lost_worker(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    folder.touch()  # a file where the folder should be: nobody can write there, root neither
    with pytest.raises(results.ResultsError, match="cannot write"):
        attempts.settle(folder, "one", OSError("No space left on device"))


def test_the_reason_of_a_halt_is_what_the_worker_said(tmp_path: Path) -> None:
    assert attempts.reason(write(tmp_path, ["error", "storage"], is_open=False)) == "storage"


def test_a_node_that_is_taken_away_counts_for_nothing_however_often(tmp_path: Path) -> None:
    for number in range(1, 30):
        record = {**results.attempts(tmp_path), "attempts": number, "open": True, "launch": "one"}
        (tmp_path / "attempts.json").write_text(json.dumps(record))
        (tmp_path / "drain.json").write_text('{"node": "10.0.0.3", "until": null}')
        assert attempts.settle(tmp_path, "one", RuntimeError("the actor died"), memory_ran_out=True) is Verdict.AGAIN
        assert attempts.was_preempted(tmp_path)
    assert results.outcome(tmp_path)["broken_off"] == "29 preempted"


def test_a_worker_that_left_its_node_goes_on(tmp_path: Path) -> None:
    assert attempts.settle(write(tmp_path, ["preempted"], is_open=False), "one") is Verdict.AGAIN
    assert attempts.was_preempted(tmp_path)


def test_an_old_notice_does_not_excuse_a_process_that_cannot_begin(tmp_path: Path) -> None:
    write(tmp_path, ["preempted"], is_open=False)
    (tmp_path / "drain.json").write_text('{"node": "10.0.0.3", "until": null}')
    verdicts = [attempts.settle(tmp_path, "one", RuntimeError("no room"), before=1) for _ in range(4)]
    assert verdicts == [Verdict.AGAIN] * 3 + [Verdict.ENDED]
    assert classes(tmp_path) == ["preempted"] + ["worker lost"] * 4
