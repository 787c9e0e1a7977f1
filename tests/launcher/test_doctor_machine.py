"""What `doctor` says of this machine's limits; each limit is really set, most of them in a process of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from permissions import without_permission

from launcher import doctor_machine
from launcher.findings import FAULT, OK, WARNING, Finding

ROOT = Path(__file__).resolve().parents[2]


def elsewhere(look: str, before: str) -> Finding:
    """Look at something in a fresh process that was limited before."""
    code = f"from launcher import doctor_machine as machine\n{before}\n(one,) = machine.{look}()\nprint(one.level, one.text, sep='|')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    level, text = done.stdout.strip().split("|")
    return Finding(level, look, text)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or os.cpu_count() == 1, reason="needs a second core to leave out"
)
def test_cores_that_are_taken_away_are_a_warning_because_ray_counts_them() -> None:
    found = elsewhere("cores", "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})")
    assert found.level == WARNING
    assert f"of which this process may use 1; Ray does not see that limit and counts {os.cpu_count()}" in found.text


def test_a_low_limit_of_open_files_is_a_warning() -> None:
    found = elsewhere("open_files", "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))")
    assert (found.level, found.text) == (WARNING, "a process may open 300 files; Ray asks for 4096 or more")


def test_a_low_soft_limit_is_well_because_ray_raises_it() -> None:
    before = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert elsewhere("open_files", before).level == (OK if hard < 0 or hard >= 4096 else WARNING)


def test_little_memory_and_little_shared_memory_are_warnings(tmp_path: Path) -> None:
    assert doctor_machine.memory(tight=1e18)[0].level == WARNING
    assert doctor_machine.shared_memory(tmp_path, wanted=1e18)[0].level == WARNING
    assert doctor_machine.shared_memory(tmp_path, wanted=0)[0].level == OK
    assert doctor_machine.shared_memory(tmp_path / "none")[0].level == OK


def test_a_long_path_for_rays_sockets_is_a_fault_before_ray_says_so(monkeypatch) -> None:
    from ray._private.utils import validate_socket_filepath

    # The longest folder that Ray's own test of names lets pass, and one letter more.
    rest = "ray/session_2026-01-01_00-00-00_000000_1000000/sockets/dash_TaskEventsHead"
    fits = "/tmp/" + "x" * (doctor_machine.SOCKET_BYTES - len("/tmp/") - len("/" + rest))
    validate_socket_filepath(f"{fits}/{rest}")
    with pytest.raises(OSError, match="AF_UNIX"):
        validate_socket_filepath(f"{fits}x/{rest}")
    for folder, level in ((fits, OK), (fits + "x", FAULT)):
        monkeypatch.setenv("RAY_TMPDIR", folder)
        assert doctor_machine.temporary()[0].level == level


def test_a_folder_for_temporary_files_that_cannot_be_written_is_a_fault(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "t"))
    with without_permission(tmp_path / "t"):
        (finding,) = doctor_machine.temporary(allowed=1000)  # the folders of tests have long names
    assert finding.level == FAULT
    assert "cannot write to" in finding.text


@pytest.mark.parametrize(("value", "level"), [("1", OK), ("8", WARNING), (None, OK)])
def test_more_threads_than_one_per_worker_are_a_warning(monkeypatch, value, level) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert doctor_machine.threads()[0].level == level


def test_a_home_that_cannot_be_written_is_a_warning(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert doctor_machine.home()[0].level == OK
    with without_permission(tmp_path):
        assert doctor_machine.home()[0].level == WARNING
    assert list(tmp_path.iterdir()) == []
