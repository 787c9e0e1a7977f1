"""Work in a process of its own: what it returns, raises and prints, and what becomes of it when somebody is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import disks
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import multiprocessing.context, multiprocessing.resource_tracker, os, signal, subprocess, sys, time
from pathlib import Path

from launcher import apart
from launcher.config import ConfigurationError


def work(what, terminal):
    terminal.write(f"told: {what}\\n")
    terminal.flush()
    print("a library talks")
    print("and complains", file=sys.stderr)
    if what == "talk":
        return [what]
    if what == "fail":
        raise OSError(28, "No space left on device")
    # not os.system, which ignores the Ctrl-C that may come meanwhile
    subprocess.run("echo and so does a process of it >&2", shell=True, check=True)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "leave":
        os._exit(7)
    if what == "raise":
        raise ZeroDivisionError("no trial can be divided by zero")
    if what == "request":
        raise ConfigurationError("--workers 9: there are 2")
    if what == "wait":
        try:
            terminal.write(f"pid {os.getpid()}\\n")
            terminal.flush()
            for _ in range(600):  # a Ctrl-C just before a sleep begins is seen when it ends
                time.sleep(0.1)
        except KeyboardInterrupt:
            terminal.write("finishing a checkpoint\\n")
            return "asked to stop"
    return [what]


if __name__ == "__main__":
    if os.environ.get("BLOCKED"):  # as Ray starts the command of a job; the tracker first, which unblocks it in older Pythons
        multiprocessing.resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if os.environ.get("EARLY"):
        started = multiprocessing.context.SpawnProcess.start

        def start_and_interrupt(process):
            started(process)
            os.kill(os.getpid(), signal.SIGINT)

        multiprocessing.context.SpawnProcess.start = start_and_interrupt
    try:
        print(apart.call(work, sys.argv[1], log=Path(sys.argv[2])))
    except apart.BrokenOff as error:
        print("broken off:", error, "" if not error.was_asked else "(after a wish)")
    except ConfigurationError as error:
        print("request:", error)
"""


def start(folder: Path, what: str, *before: str, **more: str) -> subprocess.Popen[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.Popen(
        [*before, sys.executable, str(program), what, str(folder / "log")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT), **more},
    )  # fmt: skip


def waiting(folder: Path, *before: str, **more: str) -> tuple[subprocess.Popen[str], int]:
    """Start work that waits for a signal; returns once it does, with the number of its process."""
    process = start(folder, "wait", *before, **more)
    assert process.stderr is not None
    assert process.stderr.readline() == "told: wait\n"
    return process, int(process.stderr.readline().removeprefix("pid "))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("return", "['return']\n"),
        ("raise", "broken off: ZeroDivisionError: no trial can be divided by zero; see "),
        ("request", "request: --workers 9: there are 2\n"),
        ("die", "broken off: the process that schedules the trials was killed (SIGKILL); see "),
        ("leave", "broken off: the process that schedules the trials ended by itself with code 7; see "),
    ],
)
def test_what_becomes_of_the_work_is_told(tmp_path: Path, what: str, said: str) -> None:
    stdout, stderr = start(tmp_path, what).communicate(timeout=60)
    assert stdout.startswith(said)
    assert stderr == f"told: {what}\n"
    log = (tmp_path / "log").read_text()
    assert "a library talks" in log
    assert "and so does a process of it" in log
    assert ("Traceback" in log) == (what in ("raise", "request"))


@pytest.mark.parametrize(
    ("what", "said"),
    [("talk", "['talk']\n"), ("fail", "broken off: OSError: [Errno 28] No space left on device; see ")],
)
def test_a_log_on_a_full_disk_costs_neither_the_work_nor_why_it_ended(tmp_path: Path, what: str, said: str) -> None:
    with disks.small_disk(tmp_path / "disk", "256k") as disk:
        (disk / "log").touch()
        program = tmp_path / "program.py"
        program.write_text(PROGRAM)
        disks.fill(disk)
        done = subprocess.run(
            [sys.executable, str(program), what, str(disk / "log")], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
        )  # fmt: skip
    assert done.stdout.startswith(said)
    assert done.stderr == f"told: {what}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_work_as_ctrl_c(tmp_path: Path, number: int) -> None:
    process, _ = waiting(tmp_path)
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=60)
    assert stdout == "asked to stop\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_of_ray_begins_with_ctrl_c_blocked_and_stops_all_the_same(tmp_path: Path, number: int) -> None:
    process, _ = waiting(tmp_path, BLOCKED="1")
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=60)
    assert stdout == "asked to stop\n"


def test_a_stop_that_is_told_to_all_processes_at_once_is_one_wish(tmp_path: Path) -> None:
    process, _ = waiting(tmp_path)
    for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
        one.send_signal(signal.SIGTERM)  # as `ray job stop` does, and `scancel`
    stdout, _ = process.communicate(timeout=60)
    assert stdout == "asked to stop\n"


def test_the_work_ends_when_the_launch_is_killed(tmp_path: Path) -> None:
    process, number = waiting(tmp_path)
    worker = psutil.Process(number)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert not alive


def test_an_interrupt_that_comes_before_the_work_has_begun_is_not_lost(tmp_path: Path) -> None:
    stdout, _ = start(tmp_path, "wait", EARLY="1").communicate(timeout=60)
    assert stdout in ("None\n", "asked to stop\n")


def test_a_job_in_the_background_of_a_script_can_be_stopped(tmp_path: Path) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process, _ = waiting(tmp_path, sys.executable, "-c", ignoring)
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=60)
    assert stdout == "asked to stop\n"


def test_work_outlives_the_terminal_that_shows_it_and_hears_of_its_end_once(tmp_path: Path) -> None:
    process, _ = waiting(tmp_path)
    assert process.stderr is not None
    process.stderr.close()  # the window is closed: whoever writes there gets an error
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    log = (tmp_path / "log").read_text()
    assert "nothing is shown any more: the terminal is gone" in log
    assert log.endswith("asked to stop\n")
