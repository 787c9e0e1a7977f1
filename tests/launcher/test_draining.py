"""When a worker tells its trial that its node is taken away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher import draining


class Turns:
    """Lets the watching thread look as often as there are things to happen before."""

    def __init__(self, *happens: Callable[[], Any]) -> None:
        self.happens = list(happens)

    def wait(self, seconds: float) -> bool:
        if not self.happens:
            return True
        self.happens.pop(0)()
        return False

    def is_set(self) -> bool:
        return False


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Those that drain, in the place of Ray's answer."""
    found: dict[str, int] = {}
    monkeypatch.setattr(draining, "_draining", lambda: found)
    return found


def watch(folder: Path, *happens: Callable[[], Any]) -> None:
    turns: Any = Turns(*happens)
    draining._watch("mine", "10.0.0.3", folder, turns)


def test_a_node_that_drains_is_told_with_its_deadline_and_another_is_not(nodes: dict[str, int], tmp_path: Path) -> None:
    nodes["other"] = 1
    watch(tmp_path, lambda: None)
    assert not (tmp_path / "drain.json").exists()
    nodes["mine"] = 1_795_435_200_000
    watch(tmp_path, lambda: None)
    told = {"node": "10.0.0.3", "until": "2026-11-23T12:00:00+00:00"}
    assert json.loads((tmp_path / "drain.json").read_text()) == told


def test_an_attempt_that_begins_after_the_first_look_learns_of_it_too(nodes: dict[str, int], tmp_path: Path) -> None:
    nodes["mine"] = 0
    watch(tmp_path, lambda: None, (tmp_path / "drain.json").unlink)
    assert json.loads((tmp_path / "drain.json").read_text()) == {"node": "10.0.0.3", "until": None}


def test_a_server_that_fails_is_told_once_and_asked_again(nodes, tmp_path: Path, monkeypatch, capsys) -> None:
    answers: list[Any] = [RuntimeError("no server"), RuntimeError("no server"), {"mine": 0}]

    def answer() -> dict[str, int]:
        first = answers.pop(0)
        if isinstance(first, Exception):
            raise first
        return first

    monkeypatch.setattr(draining, "_draining", answer)
    watch(tmp_path, *[lambda: None] * 3)
    assert (tmp_path / "drain.json").is_file()
    assert capsys.readouterr().err == "cannot tell whether this node is taken away, asking again: no server\n"


def test_nothing_is_watched_where_no_node_can_drain(tmp_path: Path) -> None:
    with draining.watched({"folder": str(tmp_path)}):  # no Ray is asked, or it would be started
        pass
    assert not draining.here({})
