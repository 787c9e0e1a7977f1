"""How many trials memory holds: helpers where the drivers are, workers where the devices are."""

from __future__ import annotations

import pytest

from launcher import cluster, room
from launcher.cluster import DRIVER, Cluster
from launcher.room import Machine, Need

GB = 1e9
HEAD = {"memory": 20 * GB, DRIVER: 1000.0}
WORKER = {"memory": 100 * GB, "CPU": 64.0, "GPU": 8.0}


def sized(
    *nodes: dict[str, float], backend: str = "train", gpus: float | None = None, workers: int = 1
) -> cluster.Sizing:
    total = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU", "memory")}
    there = Cluster(
        "head:6379",
        len(nodes),
        total["CPU"],
        total["GPU"],
        total["memory"],
        True,
        node_resources=nodes,
        most={} if gpus is None else {"GPU": gpus},
    )
    return cluster.size(there, 1000, workers=workers, backend=backend, max_concurrent=None)


def test_helpers_are_bounded_by_the_head_however_much_memory_the_workers_have() -> None:
    sizing = sized(HEAD, *[WORKER] * 8)
    assert sizing.max_concurrent == 20
    assert "memory holds 20 of 64 trials" in sizing.limit
    assert "which have 20.0 GB; --backend tune" in sizing.limit


def test_without_helpers_every_gpu_has_its_trial() -> None:
    sizing = sized(HEAD, *[WORKER] * 8, backend="tune")
    assert (sizing.max_concurrent, sizing.limit) == (64, "")


def test_a_trial_of_many_workers_has_its_helpers_once() -> None:
    assert sized(HEAD, *[WORKER] * 8, workers=4).max_concurrent == 16


def test_the_memory_of_a_head_without_devices_holds_no_workers() -> None:
    lean = {"memory": 6 * GB, "CPU": 8.0, "GPU": 8.0}
    sizing = sized({**HEAD, "memory": 500 * GB}, lean, lean, backend="tune")
    assert sizing.max_concurrent == 8
    assert sizing.limit == "memory holds 8 of 16 trials at a time: a worker takes 1.5 GB"


def test_what_bounds_is_what_is_named() -> None:
    lean = {"memory": 6 * GB, "CPU": 8.0, "GPU": 8.0}
    assert (
        sized({**HEAD, "memory": 500 * GB}, lean).limit == "memory holds 4 of 8 trials at a time: a worker takes 1.5 GB"
    )
    both = {"memory": 10 * GB, DRIVER: 1000.0, "CPU": 8.0, "GPU": 8.0}
    assert "holds 4 of 8 trials at a time: a worker takes 1.5 GB, and Ray Train takes 1.0 GB" in sized(both).limit


def test_memory_of_one_node_does_not_help_the_devices_of_another() -> None:
    assert sized(HEAD, {**WORKER, "memory": 3 * GB}, WORKER, backend="tune").max_concurrent == 10


def test_machines_that_are_still_to_come_are_taken_to_hold_their_workers() -> None:
    assert sized(HEAD, gpus=8).max_concurrent == 8
    assert sized(HEAD, gpus=64).max_concurrent == 20
    assert sized(HEAD, {**WORKER, "memory": 3 * GB}, gpus=16, backend="tune").max_concurrent == 10


def test_a_head_that_trains_too_shares_its_memory_between_helpers_and_workers() -> None:
    both = {"memory": 25 * GB, DRIVER: 1000.0, "CPU": 64.0, "GPU": 64.0}
    assert sized(both).max_concurrent == 10  # 1.0 + 1.5 each
    assert (
        sized(both, WORKER).max_concurrent == 14
    )  # 14 of helpers leave 11: 7 workers, and 8 on the other node; 15 leave 10: 6


def test_without_a_driver_resource_drivers_may_be_anywhere() -> None:
    nodes = [{"memory": 10 * GB, "CPU": 8.0, "GPU": 8.0}] * 2
    assert sized(*nodes).max_concurrent == 8


def test_memory_that_ray_does_not_count_bounds_nothing() -> None:
    assert room.trials((Machine(0.0, True, 7),), Need(GB, GB, 1), most=9) == 7


@pytest.mark.parametrize("head_bytes", [0.1 * GB, 20 * GB])
def test_one_trial_is_always_tried(head_bytes: float) -> None:
    assert room.trials((Machine(head_bytes, True, 1),), Need(GB, 1000 * GB, 1), most=5) == 1
