"""What a run does where the folder of its study cannot be written to; Ray's edge alone is stood in for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher import run
from launcher.cluster import Sizing


class Listener:
    """Counts how often it hears of the end."""

    def __init__(self) -> None:
        self.stopped = 0

    def started(self, trial_id: str) -> None: ...

    def reported(self, trial_id: str, metrics: Mapping[str, Any]) -> None: ...

    def finished(self, trial_id: str, row: Mapping[str, Any]) -> None: ...

    def stopping(self) -> None:
        self.stopped += 1


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A file where the folder of the study should be: nobody can write below it, root neither."""
    (tmp_path / "out").touch()
    return tmp_path / "out"


def watcher(out: Path, listener: Listener) -> run._Watcher:
    return run._Watcher(out / ".stop-1", False, listener, {"t": out / "trials" / "t"}, None)


def test_a_stop_that_cannot_be_written_down_halts_the_study_and_is_told_once(unwritable: Path) -> None:
    listener = Listener()
    watching = watcher(unwritable, listener)
    watching.interrupt()
    watching.halt("the disk is full")
    assert listener.stopped == 1
    assert watching.interrupted
    assert str(watching.halted).startswith(f"cannot write {unwritable}/.stop-1 (Not a directory")


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
