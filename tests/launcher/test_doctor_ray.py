"""What `doctor` says of Ray's settings, ports and processes, each really provoked; no Ray is started here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import doctor_ray
from launcher.findings import FAULT, OK, WARNING


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def a_token(home: Path, content: str, mode: int) -> Path:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("content", "mode", "level", "told"), [
    ("secret", 0o600, OK, "is yours alone"), ("secret", 0o644, WARNING, "(mode 0644)"), ("\n", 0o600, WARNING, "is empty"),
])  # fmt: skip
def test_the_file_of_the_token_is_to_be_its_owners_alone(home: Path, content, mode, level, told) -> None:
    path = a_token(home, content, mode)
    (finding,) = doctor_ray.settings()
    assert finding.level == level
    assert told in finding.text
    assert "secret" not in finding.text
    if mode == 0o644:
        assert finding.advice == f"chmod 600 {path}"


def test_a_token_that_is_named_and_not_there_is_a_fault(home: Path, monkeypatch) -> None:
    assert [finding.level for finding in doctor_ray.settings()] == [OK]
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "none"))
    assert [finding.level for finding in doctor_ray.settings()] == [FAULT]


def test_settings_that_open_ray_or_lead_elsewhere_are_told(monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    mode, address, token = doctor_ray.settings()
    assert mode.level == WARNING
    assert "10.0.0.1:6379" in address.text
    assert token.text == "RAY_AUTH_TOKEN is set"


def test_a_taken_port_is_told_with_who_has_it() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        (taken,) = doctor_ray.ports({port: "Ray's dashboard"})
        assert taken.level == WARNING
        assert f"is taken by process {os.getpid()} (" in taken.text
    (free,) = doctor_ray.ports({port: "Ray's dashboard"})
    assert free.level == OK


def test_processes_that_ray_left_behind_are_told_and_not_touched(tmp_path: Path) -> None:
    program = tmp_path / "raylet"
    program.symlink_to(sys.executable)
    with subprocess.Popen([str(program), "-c", "input()"], stdin=subprocess.PIPE) as left:
        try:
            (finding,) = doctor_ray.left_over()
            assert finding.level == WARNING
            assert f"raylet {left.pid}" in finding.text
            assert left.poll() is None
        finally:
            left.terminate()
