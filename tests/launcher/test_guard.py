"""What follows from how the nodes of a cluster were judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import preflight
from launcher.cluster import Cluster, Sizing
from launcher.config import ConfigurationError
from launcher.findings import FAULT, OK, WARNING, Finding
from launcher.guard import Guard
from launcher.places import Place
from launcher.preflight import Node, Seen

HEAD = Node("h" * 56, "head", "10.0.0.1", {"driver": 1000.0, "memory": 32e9})
FACTS: dict[str, Any] = {"python": "3.11.7", "time": 0.0}


def worker(number: int, *, gpus: float = 1.0) -> Node:
    return Node(f"{number:056x}", f"w{number}", f"10.0.1.{number}", {"CPU": 4.0, "GPU": gpus, "memory": 10e9})


def seen(node: Node, level: str = OK) -> Seen:
    advice = "pip install it" if level != OK else ""
    return Seen(node, [Finding(level, "packages", "torch 1.0, the launch has 2.13", advice)], FACTS)


def guard(out: Path, *found: Seen, **more: Any) -> tuple[Guard, list[str]]:
    there = Cluster("10.0.0.1:6379", 9, 0, 0, 0, True, **more)
    said: list[str] = []
    made = Guard(there, Place(out), {"store": str(out)}, said.append)
    made._note(found)
    return made, said


def test_what_a_refused_node_has_is_not_counted_and_it_is_named_with_what_to_do(tmp_path: Path) -> None:
    made, said = guard(tmp_path, seen(HEAD), seen(worker(1)), seen(worker(2, gpus=4.0), FAULT))
    left = made._left()
    assert (left.nodes, left.cpus, left.gpus, left.memory_bytes) == (2, 4.0, 1.0, 42e9)
    assert left.refused == {worker(2).id}
    assert said == ["NOT USED: node w2 (10.0.1.2, node 00000000): torch 1.0, the launch has 2.13 -> pip install it"]
    assert preflight.refused_in(tmp_path) == [worker(2).id]
    rows = {one["host"]: one for one in json.loads((tmp_path / "nodes.json").read_text())["nodes"]}
    assert {name: row["fit"] for name, row in rows.items()} == {"head": True, "w1": True, "w2": False}
    assert rows["w2"]["python"] == "3.11.7"


def test_a_warning_is_told_and_the_node_is_used(tmp_path: Path) -> None:
    made, said = guard(tmp_path, seen(HEAD), seen(worker(1), WARNING))
    assert made._left().gpus == 1
    assert said[0].startswith("warning: node w1 (10.0.1.1")


def test_without_a_node_for_trials_the_request_is_refused_with_all_reasons(tmp_path: Path) -> None:
    made, _ = guard(tmp_path, seen(HEAD), seen(worker(1), FAULT), seen(worker(2), FAULT))
    with pytest.raises(ConfigurationError, match=r"may run trials:\n  NOT USED: node w1 .*\n  NOT USED: node w2"):
        made._left()


def test_without_a_node_for_drivers_the_request_is_refused(tmp_path: Path) -> None:
    made, _ = guard(tmp_path, seen(HEAD, FAULT), seen(worker(1)))
    with pytest.raises(ConfigurationError, match=r"may hold the drivers of trials:\n  NOT USED: node head"):
        made._left()


def test_a_cluster_that_grows_may_begin_with_refused_nodes_and_does_not_count_on_them(tmp_path: Path) -> None:
    made, _ = guard(tmp_path, seen(HEAD), seen(worker(1), FAULT), most={"CPU": 0.0, "GPU": 8.0})
    assert made._left().most["GPU"] == 7


def test_three_machines_refused_with_none_that_is_fit_end_the_study(tmp_path: Path) -> None:
    made, _ = guard(tmp_path, seen(HEAD), most={"CPU": 0.0, "GPU": 8.0})
    reasons: list[str] = []
    made.gives_up(reasons.append)
    made._note([seen(worker(1), FAULT), seen(worker(2), FAULT)])
    assert reasons == []
    made._note([seen(worker(3), FAULT)])
    assert reasons[0].startswith("no node may run trials: 3 were refused, last w3 (10.0.1.3")


def test_where_no_machine_is_to_come_the_last_one_refused_ends_the_study(tmp_path: Path) -> None:
    made, _ = guard(tmp_path, seen(HEAD), seen(worker(1)), seen(worker(2)))
    reasons: list[str] = []
    made.gives_up(reasons.append)
    made._note([seen(worker(1), FAULT)])
    assert reasons == []
    made._note([seen(worker(2), FAULT)])
    assert reasons[0].startswith("no node may run trials: 2 were refused, last w2")


def test_machines_refused_beside_one_that_is_fit_end_nothing(tmp_path: Path) -> None:
    made, _ = guard(tmp_path, seen(HEAD), seen(worker(9)), most={"CPU": 0.0, "GPU": 8.0})
    reasons: list[str] = []
    made.gives_up(reasons.append)
    made._note([seen(worker(number), FAULT) for number in range(1, 5)])
    assert reasons == []


def silent(node: Node, *, gone: bool = False) -> Seen:
    return Seen(node, [Finding(FAULT, "node", "it did not answer within 180 s", "look")], gone=gone)


def test_machines_that_do_not_answer_are_counted_and_those_that_went_away_meanwhile_are_not(tmp_path: Path) -> None:
    made, said = guard(tmp_path, seen(HEAD), most={"CPU": 0.0, "GPU": 8.0})
    reasons: list[str] = []
    made.gives_up(reasons.append)
    made._note([silent(worker(number), gone=True) for number in range(1, 6)])
    assert made._left().most["GPU"] == 8
    made._note([silent(worker(number)) for number in (6, 7)])
    assert (reasons, len(said)) == ([], 7)
    made._note([silent(worker(8))])
    assert reasons == [
        "no node may run trials: 3 were refused, last w8 (10.0.1.8, node 00000000): it did not answer within 180 s"
    ]


def test_a_machine_that_went_away_while_it_was_looked_at_is_named_once_and_may_come_to_be_fit(tmp_path: Path) -> None:
    made, said = guard(tmp_path, seen(HEAD), silent(worker(1), gone=True))
    made._note([silent(worker(1), gone=True)])
    assert len(said) == 1
    made._note([seen(worker(1))])
    assert (made.refused, preflight.refused_in(tmp_path)) == ([], [])


@pytest.mark.parametrize("most", [{}, {"CPU": 0.0, "GPU": 8.0}])
def test_a_launch_whose_only_node_for_drivers_is_refused_gives_up(tmp_path: Path, most: dict[str, float]) -> None:
    made, _ = guard(tmp_path, seen(HEAD), seen(worker(1)), most=most)
    made.wants(Sizing(1, True, 1, 4), lambda: 4, backend="train")
    reasons: list[str] = []
    made.gives_up(reasons.append)
    made.refuse(HEAD.id, "/shared cannot be read there")
    assert reasons == [
        "no node may hold the drivers of trials: head (10.0.0.1, node hhhhhhhh) was refused: /shared cannot be read there"
    ]


def test_trials_without_drivers_go_on_when_the_head_is_refused(tmp_path: Path) -> None:
    made, _ = guard(tmp_path, seen(HEAD), seen(worker(1)))
    made.wants(Sizing(1, True, 1, 4), lambda: 4, backend="tune")
    made.gives_up(pytest.fail)
    made.refuse(HEAD.id, "/shared cannot be read there")


def test_what_was_refused_before_there_was_anybody_to_tell_is_told(tmp_path: Path) -> None:
    made, _ = guard(tmp_path, seen(HEAD), *(seen(worker(number), FAULT) for number in (1, 2, 3)), most={"GPU": 8.0})
    reasons: list[str] = []
    made.gives_up(reasons.append)
    assert len(reasons) == 1


def test_a_fit_node_without_gpus_keeps_no_study_waiting_that_wants_them(tmp_path: Path) -> None:
    head = Node("h" * 56, "head", "10.0.0.1", {"driver": 1000.0, "CPU": 8.0})
    made, _ = guard(tmp_path, seen(head), *(silent(worker(number)) for number in (1, 2, 3)), most={"GPU": 8.0})
    made.wants(Sizing(1, True, 1, 4), lambda: 4, backend="train")
    reasons: list[str] = []
    made.gives_up(reasons.append)
    assert reasons[0].startswith("no node may run trials: 3 were refused")


def test_waiting_is_told_when_it_changes_and_only_for_trials_that_are_left(tmp_path: Path) -> None:
    made, said = guard(tmp_path, seen(HEAD))
    left = [8]
    made.wants(Sizing(1, True, 1, 4), lambda: left[0], backend="train")
    made._wait_for([HEAD])
    made._wait_for([HEAD])
    made._wait_for([HEAD, worker(1)])
    assert said == [f"waiting for machines: {there} of 4 GPUs are there" for there in (0, 1)]
    left[0] = 1
    made._wait_for([HEAD, worker(1)])
    assert len(said) == 2


def test_machines_that_do_not_come_for_long_are_told_with_where_the_reason_stands_once(tmp_path: Path) -> None:
    made, said = guard(tmp_path, seen(HEAD))
    made.wants(Sizing(1, True, 1, 4), lambda: 4, backend="train")
    for _ in range(2000):
        made._wait_for([HEAD])
    assert len(said) == 2
    assert said[1].startswith("waiting for machines: 0 of 4 GPUs are there, as for 15 minutes now; on the head, tail")
    for _ in range(2000):
        made._wait_for([HEAD, *(worker(number) for number in (1, 2, 3, 4))])
    assert len(said) == 2


def test_a_ray_of_the_study_itself_is_not_looked_at(tmp_path: Path) -> None:
    there = Cluster(None, 1, 2, 0, 8e9, True)
    made = Guard(there, Place(tmp_path), {"store": str(tmp_path)}, pytest.fail)
    with made.watching() as left:
        assert left is there
        assert made.told is None
    assert list(tmp_path.iterdir()) == []
