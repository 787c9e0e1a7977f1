"""Which Ray a study runs on when nobody, or somebody, names one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import address


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without cluster, token or settings."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Somebody who listens; taken for an address that other machines see."""
    monkeypatch.setattr(address, "_is_loopback", lambda host: False)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def started(machine: Path, where: str, *, token: bool) -> None:
    (machine / "ray" / "ray_current_cluster").write_text(where)
    if token:
        (machine / ".ray").mkdir()
        (machine / ".ray" / "auth_token").write_text("t" * 64)


def test_without_a_cluster_ray_is_started_for_the_study() -> None:
    assert address.choose(None) == address.Choice(None, "starting Ray ...")


def test_what_is_named_counts_first_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert address.choose(None) == address.Choice("10.0.0.1:6379", "connecting to 10.0.0.1:6379 (RAY_ADDRESS) ...")
    assert address.choose("10.0.0.2:6379").address == "10.0.0.2:6379"
    assert address.choose("local") == address.Choice(None, "starting Ray ...")


def test_a_machine_of_a_cluster_uses_it_and_says_so(machine: Path, server: str) -> None:
    started(machine, server, token=True)
    choice = address.choose(None)
    assert (choice.address, choice.was_found) == (server, True)
    assert choice.told == f"using the Ray cluster at {server}; --address local starts one for this study alone"
    assert address.choose("local").address is None


def test_a_cluster_without_a_token_for_it_is_left_alone(machine: Path, server: str) -> None:
    started(machine, server, token=False)
    choice = address.choose(None)
    assert choice.address is None
    assert "has no token" in choice.told


def test_a_cluster_that_is_gone_is_told_and_not_used(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_is_loopback", lambda host: False)
    with socket.socket() as probe:  # bound and not listening
        probe.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{probe.getsockname()[1]}"
        started(machine, where, token=True)
        choice = address.choose(None)
    assert choice.address is None
    assert f"the cluster at {where} that this machine was part of does not answer" in choice.told


@pytest.mark.parametrize("where", ["127.0.0.1:6379", "localhost:6379", "[::1]:6379", "nonsense"])
def test_a_ray_that_only_this_machine_sees_is_never_joined(machine: Path, where: str) -> None:
    started(machine, where, token=True)
    assert address.choose(None) == address.Choice(None, "starting Ray ...")


def test_other_versions_of_a_cluster_are_one_message() -> None:
    text = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.10.1\n"
        "This process on node 10.0.0.7 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
    )
    told = str(address.other_versions("10.0.0.1:6379", RuntimeError(text)))
    assert told.startswith(
        "the cluster at 10.0.0.1:6379 runs Ray 2.59.0 with Python 3.10.1, this launch Ray 2.60.0 with Python 3.11.7"
    )
    assert address.other_versions("10.0.0.1:6379", RuntimeError("something else")) is None
