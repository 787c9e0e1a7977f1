"""How nodes are looked at: storage that is away, clocks, and nodes that do not answer. Ray's own edge is played, by a clock that the tests turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import NodeDiedError, RuntimeEnvSetupError, WorkerCrashedError

from launcher import node, preflight, retries, run
from launcher.cluster import Cluster, Sizing
from launcher.config import ConfigurationError
from launcher.guard import Guard, Unreachable
from launcher.places import Place
from launcher.preflight import Node
from launcher.retries import StorageError

HEAD = Node("0" * 56, "head", "10.0.0.1", {"driver": 1000.0})
WORKERS = [Node(f"{number}" * 56, f"w{number}", f"10.0.1.{number}", {"CPU": 4.0}) for number in range(1, 5)]
FACTS: dict[str, Any] = {
    "host": "n", "python": "3.11.2", "packages": {}, "code": "c", "commit": None, "gpu": None, "out": None, "store": None, "disk": {},
}  # fmt: skip


class Clock:
    """Goes on when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self._over, self._then = 1000.0, float("inf"), lambda: None
        turned = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now, sleep=self._passes)
        for module in (node, preflight, retries):  # not for all: `git`, which a node is asked for, takes its own time
            monkeypatch.setattr(module, "time", turned)

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        """Have something happen once."""
        self._over, self._then = self.now + seconds, then

    def _passes(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self._over:
            self._over = float("inf")
            self._then()


class Storage:
    """A folder that is met by its URI; while it is away its files cannot be read (they are folders then)."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self._clock, self.uri = folder, clock, f"file://{folder}"
        folder.mkdir()

    def is_away(self, seconds: float) -> None:
        for path in list(self.folder.iterdir()):
            path.rename(self.folder.parent / path.name)
            path.mkdir()
        self._clock.after(seconds, self._comes)

    def _comes(self) -> None:
        for path in list(self.folder.iterdir()):
            path.rmdir()
            (self.folder.parent / path.name).rename(path)


class Ray:
    """What the launch asks of Ray: tasks end as soon as they begin, those of silent nodes never."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> None:
        self.nodes, self.answer, self.cancelled = [HEAD, *WORKERS], answer, 0
        self._told: list[Any] = []
        monkeypatch.setattr(ray, "remote", lambda **how: lambda look: SimpleNamespace(options=self._options))
        monkeypatch.setattr(ray, "wait", self._wait)
        monkeypatch.setattr(ray, "get", self._get)
        monkeypatch.setattr(ray, "cancel", self._cancel)
        monkeypatch.setattr(ray, "nodes", self._alive)

    def _options(self, scheduling_strategy: Any) -> Any:
        def remote(asked: Mapping[str, Any], gpus: float, *, works: bool) -> int:
            self._told.append(self.answer(scheduling_strategy.node_id, asked, gpus, works=works))
            return len(self._told) - 1

        return SimpleNamespace(remote=remote)

    def _wait(self, waiting: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        ready = [one for one in waiting if self._told[one] is not None][:num_returns]
        return ready, [one for one in waiting if one not in ready]

    def _get(self, reference: int) -> Any:
        if isinstance(told := self._told[reference], Exception):
            raise told
        return told

    def _cancel(self, reference: int, *, force: bool) -> None:
        self.cancelled += 1

    def _alive(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": one.id, "NodeManagerHostname": one.host, "NodeManagerAddress": one.address, "Resources": one.resources, "Alive": True}
            for one in self.nodes
        ]  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(autouse=True)
def on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray, asking it where a process runs would start one."""
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "n1"))


@pytest.fixture
def storage(tmp_path: Path, clock: Clock) -> Storage:
    return Storage(tmp_path / "there", clock)


def asked(out: str | None, **more: Any) -> dict[str, Any]:
    return {"out": out, "key": "key", "secret": "s", "store": None, "answers": False, **more}


def job(storage: Storage, tmp_path: Path) -> dict[str, Any]:
    """Make a job whose study is there, for a process that has not looked at its node."""
    (storage.folder / "key").write_text("s")
    told = {"asked": asked(storage.uri), "launch": node.look(asked(None), 0, works=False)}
    return {"trial_id": "t", "launch": str(tmp_path), "folder": str(tmp_path / "t"), "preflight": told}


def drive(job: Mapping[str, Any]) -> None:
    jobs: Any = {"t": job}
    run._drive({"trial_id": "t"}, jobs=jobs, train_fn="builtins:len", sizing=Sizing(1, False, 1, 1), backend="train")


def test_a_process_of_a_trial_waits_for_storage_that_is_away_for_minutes(
    storage: Storage, clock: Clock, tmp_path: Path
) -> None:
    told = job(storage, tmp_path)
    storage.is_away(200.0)
    preflight.admit(told, works=False)
    assert 1200.0 <= clock.now < 1300.0


def test_storage_that_stays_away_ends_the_study_and_refuses_no_node(
    storage: Storage, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = job(storage, tmp_path)
    storage.is_away(1e6)
    with pytest.raises(StorageError, match=f"^{storage.uri} cannot be read"):
        preflight.admit(told, works=False)
    assert clock.now >= 1240.0
    reports: list[dict[str, str]] = []
    monkeypatch.setattr(run.tune, "report", reports.append)
    drive(told)
    (only,) = reports
    assert only["status"] == "HALT"
    assert "cannot be read" in only["reason"]


def test_a_process_still_refuses_a_node_that_sees_another_folder(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = job(storage, tmp_path)
    (storage.folder / "key").write_text("of another study")
    reports: list[dict[str, str]] = []
    monkeypatch.setattr(run.tune, "report", reports.append)
    with pytest.raises(run._Moved, match="not fit"):
        drive(told)
    (only,) = reports
    assert (only["status"], only["node"]) == ("UNFIT", "n1")
    assert "-> on the node: python launch.py status" in only["reason"]


@pytest.fixture
def guard(storage: Storage, tmp_path: Path) -> tuple[Guard, list[str]]:
    (tmp_path / "here").mkdir()
    (tmp_path / "store.json").write_text(json.dumps({"fingerprint": "abc"}))
    said: list[str] = []
    there = Cluster("10.0.0.1:6379", 9, 0, 0, 0, True, code=node.code())
    return Guard(there, Place(tmp_path / "here", storage.uri), {"store": str(tmp_path)}, said.append), said


def looks(storage: Storage, seconds: float) -> Callable[..., Any]:
    """Look as a node does, with storage that goes away for so long when the first one does."""
    looked: list[str] = []

    def look(name: str, *words: Any, works: bool) -> Any:
        if not looked:
            storage.is_away(seconds)
        looked.append(name)
        return node.look(*words, works=works)

    return look


def test_nodes_that_an_outage_met_are_looked_at_again_and_are_fit(
    guard: tuple[Guard, list[str]], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = guard
    Ray(monkeypatch, looks(storage, 170.0))  # each of five waits for half a minute, here one after the other
    with made.watching() as left:
        assert (left.nodes, left.refused) == (5, frozenset())
    assert not [line for line in said if "NOT USED" in line]
    assert list(storage.folder.iterdir()) == []


def test_an_outage_that_lasts_ends_the_launch_as_one_that_can_be_given_again(
    guard: tuple[Guard, list[str]], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = guard
    Ray(monkeypatch, looks(storage, 1e6))
    with pytest.raises(Unreachable, match=r"no trial has begun\. The same command goes on") as raised, made.watching():
        pytest.fail("no node can be used")
    assert raised.value.exit_code == 130
    assert not [line for line in said if "NOT USED" in line]


def test_a_node_that_alone_does_not_reach_the_storage_is_refused(
    guard: tuple[Guard, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = guard

    def look(name: str, *words: Any, works: bool) -> Any:
        facts = node.look(*words, works=works)
        is_away = {"out": {"read": "StorageError: AWS Error NETWORK_CONNECTION", "may_pass": True}}
        return {**facts, **(is_away if name == WORKERS[1].id else {})}

    Ray(monkeypatch, look)
    with made.watching() as left:
        assert left.refused == {WORKERS[1].id}
    assert [line[:21] for line in said if "NOT USED" in line] == ["NOT USED: node w2 (10"]


def test_clocks_are_judged_by_when_answers_came_and_not_by_how_long_it_takes_to_read_back_what_nodes_wrote(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(name: str, *words: Any, works: bool) -> Any:
        behind = 70.0 if name == WORKERS[3].id else 0.0
        out = {"read": "same", "answer": f"answer-{name}", "content": "never seen: each is waited for"}
        return {**FACTS, "out": out, "time": clock.now - behind}

    Ray(monkeypatch, look)
    seen = preflight.inspect(WORKERS, asked(str(tmp_path)), FACTS)
    assert clock.now > 1000.0
    assert [[found.about for found in one.findings] for one in seen] == [["out"], ["out"], ["out"], ["out", "clock"]]


def test_nodes_that_give_no_answer_are_told_from_those_that_went_away(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, fourth = WORKERS
    answers: dict[str, Any] = {
        first.id: RuntimeEnvSetupError("no s3://KEY:wJalrXUtnFEMI@bucket/code.zip " + "x" * 370),
        second.id: None,
        third.id: NodeDiedError("its raylet is gone"),
        fourth.id: WorkerCrashedError(),
    }
    there = Ray(monkeypatch, lambda name, *words, works: answers[name])
    there.nodes = [first, second, third]
    seen = {one.node.id: one for one in preflight.inspect(WORKERS, asked(None), FACTS, seconds=7)}
    assert {name: one.gone for name, one in seen.items()} == {
        first.id: False, second.id: False, third.id: True, fourth.id: True,
    }  # fmt: skip
    assert not any(one.is_fit for one in seen.values())
    (failed,), (late,) = seen[first.id].findings, seen[second.id].findings
    assert "wJalr" not in failed.text
    assert "runtime_env_setup-*.log" in failed.advice
    assert late.text == "it did not answer within 7 s"
    assert there.cancelled == 1


def test_without_any_node_that_answers_a_cluster_that_does_not_grow_is_refused(
    guard: tuple[Guard, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = guard
    Ray(monkeypatch, lambda name, *words, works: None if works else node.look(*words, works=works))
    with pytest.raises(ConfigurationError, match="it did not answer within 180 s -> on the head: ray status"):
        with made.watching():
            pytest.fail("no node can be used")
