from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from launcher import results, watch
from tests.launcher.studies import ONE_ATTEMPT, checkpoint, finished, locked, put, study, write_study

ROOT = Path(__file__).resolve().parents[2]
SILENT = Console(file=io.StringIO())
OPEN = {**ONE_ATTEMPT, "open": True}
MADE = study("reduction=sum,mean", "seed=1")
ONE, OTHER = (trial.trial_id for trial in MADE.trials())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_study(tmp_path / "out", MADE)


def lines_of(out: Path, steps: list, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Watch a study that takes one step each time the watcher waits."""
    waiting = iter(steps)
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: next(waiting)())
    return [watch.line(change) for change in watch.changes(watch.Snapshot(out), 2.0, SILENT)]


def test_every_change_is_one_line_and_the_end_of_the_last_trial_is_the_end(out: Path, monkeypatch) -> None:
    steps = [
        lambda: put(out, ONE, attempts=OPEN),
        lambda: put(out, ONE, progress={"update": 33, "updates": 297, "wer": 0.5}),
        lambda: None,
        lambda: put(out, ONE, result=finished()),
        lambda: put(out, OTHER, attempts=ONE_ATTEMPT, failure={"error": "ValueError: no"}),
    ]
    with locked(out / ".lock"):
        assert lines_of(out, steps, monkeypatch) == [
            f"{ONE}: pending",
            f"{OTHER}: pending",
            f"{ONE}: running",
            f"{ONE}: running, update 33 of 297, WER 50.0 %",
            f"{ONE}: done, WER 50.0 %, CER 25.0 %, NLL/label 1.000, 0:20",
            f"{OTHER}: failed: ValueError: no",
        ]


def test_torn_and_vanishing_files_leave_a_trial_as_it_was(out: Path, monkeypatch) -> None:
    def tear() -> None:
        (results.trial_folder(out, ONE) / "attempts.json").write_text('{"attempts": ')
        (out / "study.json").unlink()

    def vanish() -> None:
        (results.trial_folder(out, ONE) / "attempts.json").unlink()
        results.trial_folder(out, ONE).rename(out / "aside")

    steps = [
        lambda: put(out, ONE, attempts=OPEN),
        tear,
        vanish,
        lambda: put(out, ONE, result=finished()),
        lambda: put(out, OTHER, result=finished()),
    ]
    with locked(out / ".lock"):
        found = lines_of(out, steps, monkeypatch)
    assert [line.partition(",")[0] for line in found] == [
        f"{ONE}: pending", f"{OTHER}: pending", f"{ONE}: running", f"{ONE}: pending", f"{ONE}: done", f"{OTHER}: done",
    ]  # fmt: skip


def test_a_trial_that_is_run_anew_is_seen_though_it_had_ended(out: Path) -> None:
    snapshot = watch.Snapshot(out)
    put(out, ONE, result=finished())
    for _ in range(4):
        snapshot.read()
    assert snapshot.rows[ONE]["status"] == "done"
    results.trial_folder(out, ONE).rename(out / "aside")
    snapshot.read()
    assert snapshot.rows[ONE]["status"] == "pending"


def test_trials_that_a_new_launch_adds_are_seen(out: Path) -> None:
    snapshot = watch.Snapshot(out)
    snapshot.read()
    write_study(out, study("reduction=sum,mean", "seed=1,2"))
    snapshot.read()
    assert len(snapshot.rows) == 4


def test_the_plan_is_read_again_only_when_it_has_changed(out: Path, monkeypatch) -> None:
    snapshot, read, readings = watch.Snapshot(out), results.read_study, []
    monkeypatch.setattr(results, "read_study", lambda folder: readings.append(folder) or read(folder))
    snapshot.read()
    snapshot.read()
    assert len(readings) == 1
    file = out / "study.json"
    file.write_text(file.read_text() + "\n")
    snapshot.read()
    assert len(readings) == 2


def test_nothing_is_written_by_who_watches(out: Path) -> None:
    checkpoint(put(out, ONE, attempts=OPEN), 9, 297)
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
    watch.Snapshot(out).read()
    assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before


def test_the_picture_names_who_runs_the_study_and_where_each_trial_is(out: Path) -> None:
    with locked(out / ".lock"):
        put(out, ONE, attempts=OPEN, progress={"update": 33, "updates": 297, "seconds": 61.0})
        snapshot = watch.Snapshot(out)
        snapshot.read()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(watch.drawing(snapshot))
    text = console.export_text()
    assert "2 trials: 1 running, 1 pending" in text
    assert "run by process 7 on ward" in text
    (row,) = (line for line in text.splitlines() if ONE in line)
    assert "33/297" in row
    assert "1:01" in row


def status(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch.py"), "status", str(out), *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_a_study_that_has_ended_is_told_at_once_as_json_lines_too(out: Path) -> None:
    put(out, ONE, result=finished())
    put(out, OTHER, failure={"error": "ValueError: no"})
    done = status(out, "--watch", "--json")
    assert done.returncode == 3, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["trial_id"], first["status"], first["wer"]) == (ONE, "done", 0.5)
    assert second["error"] == "ValueError: no"


def test_the_status_of_a_running_study_says_which_trials_run(out: Path) -> None:
    with locked(out / ".lock"):
        put(out, ONE, attempts=OPEN)
        done = status(out, "--json")
    assert [trial["status"] for trial in json.loads(done.stdout)["trials"]] == ["running", "pending"]


def test_ctrl_c_leaves_quietly(out: Path) -> None:
    """On a terminal, where the table is drawn."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "launch.py"), "status", str(out), "--watch", "--interval", "0.1"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT, text=True)
    os.close(theirs)
    seen = b""
    while b"pending" not in seen:
        seen += os.read(ours, 1000)
    process.send_signal(2)
    while True:
        try:
            if not os.read(ours, 1000):
                break
        except OSError:  # the terminal is gone with its last user
            break
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0
    os.close(ours)


def test_an_error_of_several_lines_is_one_line_of_the_watch_and_whole_in_the_status(out: Path) -> None:
    put(out, ONE, attempts=ONE_ATTEMPT, failure={"error": "ValueError: no\nbecause of [red]that[/red]"})
    put(out, OTHER, attempts=ONE_ATTEMPT, result=finished())
    watched = status(out, "--watch")
    assert watched.stdout.splitlines()[0] == f"{ONE}: failed: ValueError: no"
    assert len(watched.stdout.splitlines()) == 2
    once = status(out)
    assert (once.returncode, "ValueError" in once.stdout) == (3, False)
    assert f"failed: {ONE}: ValueError: no\nbecause of [red]that[/red]" in once.stderr
    assert status(out, "--json").stderr == ""


def test_who_runs_the_study_is_told_beside_the_lines_whenever_it_changes(out: Path, monkeypatch) -> None:
    remarks = io.StringIO()
    steps = iter([lambda: put(out, ONE, result=finished()), lambda: put(out, OTHER, result=finished())])
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: next(steps)())
    list(watch.changes(watch.Snapshot(out), 2.0, Console(file=remarks, width=200)))
    assert remarks.getvalue() == "nobody runs this study now\n"
