"""What a run does where the folder of its study cannot be written to; Ray's edge alone is stood in for."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from launcher import run
from launcher.cluster import Sizing
from launcher.mirror import Mirror
from launcher.places import Place


class Listener:
    """Counts how often it hears of the end."""

    def __init__(self) -> None:
        self.stopped = 0

    def started(self, trial_id: str) -> None: ...

    def waiting(self, trial_id: str) -> None: ...

    def reported(self, trial_id: str, metrics: Mapping[str, Any]) -> None: ...

    def finished(self, trial_id: str, row: Mapping[str, Any]) -> None: ...

    def stopping(self, why: str) -> None:
        self.stopped += 1


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A file where the folder of the study should be: nobody can write below it, root neither."""
    (tmp_path / "out").touch()
    return tmp_path / "out"


def watcher(out: Path, listener: Listener) -> run._Watcher:
    return run._Watcher(out / ".stop-1", False, listener, {"t": out / "trials" / "t"}, None, Place(out))


def test_a_stop_that_cannot_be_written_down_halts_the_study_and_is_told_once(unwritable: Path) -> None:
    listener = Listener()
    watching = watcher(unwritable, listener)
    watching.interrupt()
    watching.halt("the disk is full")
    assert listener.stopped == 1
    assert watching.interrupted
    assert str(watching.halted).startswith(f"cannot write {unwritable}/.stop-1 (Not a directory")


def test_trials_that_wait_end_where_no_stop_file_can_be_made(unwritable: Path, monkeypatch) -> None:
    watching = watcher(unwritable, Listener())
    waits = SimpleNamespace(PENDING=Trial.PENDING, status=Trial.PENDING, init_local_path=lambda: None)
    stopped: list[Any] = []
    controller = SimpleNamespace(get_trials=lambda: [waits], stop_trial=stopped.append)
    monkeypatch.setattr(run.FIFOScheduler, "choose_trial_to_run", lambda self, controller: None)
    scheduler = run._Scheduler(lambda cell: None, watching)  # type: ignore[arg-type,return-value]
    scheduler.choose_trial_to_run(controller)
    assert stopped == []
    watching.halt("the disk is full")
    scheduler.choose_trial_to_run(controller)
    assert stopped == [waits]


def test_a_wish_to_stop_is_sent_as_soon_as_the_network_is_back(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out").mkdir()
    tried, back = [], threading.Event()

    def put(mirror: Mirror, name: str, blocks: Any) -> None:
        tried.append(name)
        if len(tried) < 4:
            raise OSError("AWS Error NETWORK_CONNECTION")
        back.set()

    monkeypatch.setattr("launcher.retries._PAUSES_SECONDS", ())
    monkeypatch.setattr("launcher.following._WISH_SECONDS", 0.0)
    monkeypatch.setattr(Mirror, "_put", put)
    listener, place = Listener(), Place(tmp_path / "out", f"file://{tmp_path}/there")
    watching = run._Watcher(tmp_path / "out" / ".stop-1", False, listener, {}, None, place)
    watching.interrupt()
    assert back.wait(60)
    assert tried == [".stop-1"] * 4
    assert (watching.halted, listener.stopped) == (None, 1)


def test_a_failure_that_cannot_be_written_down_halts_the_study(unwritable: Path) -> None:
    watching = watcher(unwritable, Listener())
    trial = SimpleNamespace(config={"trial_id": "t"}, get_error=lambda: RuntimeError("the actor died"))
    watching.on_trial_error(1, [trial], trial)
    assert "failure.json" in str(watching.halted)


def test_a_trial_that_cannot_write_reports_why_and_is_no_lost_worker(unwritable: Path, tmp_path, monkeypatch) -> None:
    reports: list[dict[str, str]] = []
    monkeypatch.setattr(run.tune, "report", reports.append)
    job = {
        "trial_id": "t",
        "folder": str(unwritable / "t"),
        "launch": "one",
        "threads": 1,
        "stop_file": str(tmp_path / "s"),
    }
    # `len` takes no job: whatever the training function raises, the end of the attempt cannot be noted.
    jobs: Any = {"t": job}
    run._drive({"trial_id": "t"}, jobs=jobs, train_fn="builtins:len", sizing=Sizing(1, False, 1, 1), backend="tune")
    assert [report["status"] for report in reports] == ["HALT"]
    assert "cannot write" in reports[0]["reason"]
    watching = watcher(tmp_path, Listener())
    watching.on_trial_result(1, [], SimpleNamespace(config={"trial_id": "t"}), reports[0])
    assert watching.halted == reports[0]["reason"]
    assert (tmp_path / ".stop-1").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_beside_the_trial_halts_the_study_and_asks_for_no_other_process(
    tmp_path: Path, monkeypatch, number: int
) -> None:
    reports: list[dict[str, str]] = []
    monkeypatch.setattr(run.tune, "report", reports.append)

    def fails(job: Any) -> Any:
        raise OSError(number, os.strerror(number), "/tmp/copies")

    monkeypatch.setattr(run.courier, "beside", fails)
    words: Any = {"train_fn": "builtins:len", "sizing": Sizing(1, False, 1, 1), "backend": "tune"}
    run._drive({"trial_id": "t"}, jobs={"t": {"trial_id": "t"}}, **words)  # type: ignore[arg-type]
    assert reports == [{"status": "HALT", "reason": f"[Errno {number}] {os.strerror(number)}: '/tmp/copies'"}]


def test_other_errors_beside_the_trial_are_left_to_tune(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(run.courier, "beside", lambda job: open(tmp_path / "gone"))
    words: Any = {"train_fn": "builtins:len", "sizing": Sizing(1, False, 1, 1), "backend": "tune"}
    with pytest.raises(FileNotFoundError):
        run._drive({"trial_id": "t"}, jobs={"t": {"trial_id": "t"}}, **words)  # type: ignore[arg-type]


def test_a_trial_that_tune_gave_up_over_a_full_disk_has_not_failed(tmp_path: Path) -> None:
    watching = watcher(tmp_path, Listener())
    full = RuntimeError("ray::drive() ... OSError: [Errno 28] No space left on device: '/tmp/ray'")
    trial = SimpleNamespace(config={"trial_id": "t"}, get_error=lambda: full)
    watching.on_trial_error(1, [trial], trial)
    assert "No space left on device: '/tmp/ray'" in str(watching.halted)
    assert not (tmp_path / "trials" / "t" / "failure.json").exists()


def test_a_process_that_was_used_before_begins_nothing_on_a_node_that_is_taken_away(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run.draining, "here", lambda job: job["may_drain"])
    job = {"trial_id": "t", "folder": str(tmp_path / "t"), "launch": "one", "threads": 1, "may_drain": True}
    job |= {"out": str(tmp_path), "stop_file": str(tmp_path / "s")}
    jobs: Any = {"t": job}
    words: Any = {"jobs": jobs, "train_fn": "builtins:len", "sizing": Sizing(1, False, 1, 1), "backend": "tune"}
    with pytest.raises(run._Moved, match="t does not begin on a node that is taken away"):
        run._drive({"trial_id": "t"}, **words)
    assert not (tmp_path / "t").exists()
    (tmp_path / "s").touch()  # the study ends: nothing has to wait for another node
    run._drive({"trial_id": "t"}, **words)


def test_a_trial_that_moves_does_not_count_for_tune_and_one_that_breaks_off_does(monkeypatch) -> None:
    """Tune never gives up a trial for a node that was preempted, however often: `_Moved` has to look like that to it."""
    monkeypatch.setattr(Trial, "local_path", None)  # of a file with the error
    tuned = Trial("a trainable", stub=True)
    for raised, counted in ((run._Moved("elsewhere"), 0), (run._Again("damaged"), 1)):
        arrived = pickle.loads(pickle.dumps(raised))
        tuned.handle_error(RayTaskError("train", "", arrived).as_instanceof_cause())
        assert (str(arrived), tuned.num_failures) == (str(raised), counted)
