"""The command of the dashboard ends quietly, and tidies up."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import dashboard
from tests.launcher.studies import study, write_study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_study(tmp_path / "out", study("reduction=sum,mean", "seed=1"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_and_later_ones_do_not_interrupt_what_is_tidied_up(number: int) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(KeyboardInterrupt), dashboard.ended_by_signals():
            signal.raise_signal(number)
        signal.raise_signal(number)  # while the process ends
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_without_a_signal_everything_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with dashboard.ended_by_signals():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_the_command_prints_its_address_and_ends_quietly(out: Path) -> None:
    command = [sys.executable, str(ROOT / "launch.py"), "dashboard", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
