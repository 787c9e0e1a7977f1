"""How many trials run at a time, and what each gets."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from launcher import cluster
from launcher.cluster import Cluster
from launcher.config import ConfigurationError

GIB = 2**30


def size(cpus: float = 8, gpus: float = 0, memory: float = 100e9, trials: int = 50, **more: Any) -> cluster.Sizing:
    there = Cluster(None, 1, cpus, gpus, memory, True)
    return cluster.size(there, trials, **{"workers": 1, "backend": "tune", "max_concurrent": None, **more})


def test_one_device_per_worker() -> None:
    assert size().max_concurrent == 8
    assert size(workers=3, backend="train").max_concurrent == 2
    assert size(gpus=4).max_concurrent == 4
    assert size(gpus=4).device == {"CPU": 1, "GPU": 1.0}


def test_never_more_than_there_are_trials_or_than_was_asked_for() -> None:
    assert size(trials=2).max_concurrent == 2
    assert size(max_concurrent=3).max_concurrent == 3


def test_memory_bounds_trials_and_what_was_measured_replaces_the_guess() -> None:
    assert size(memory=4.5e9).max_concurrent == 3
    assert size(memory=4.5e9, backend="train").max_concurrent == 1
    assert size(memory=4.5e9, measured_bytes={"CPU": 0.5e9}).max_concurrent == 7
    assert size(memory=4.5e9, measured_bytes={"CPU": 3.6e9}).max_concurrent == 1


def test_trials_may_share_a_gpu() -> None:
    sizing = size(gpus=2, gpus_per_worker="0.25")
    assert (sizing.max_concurrent, sizing.device["GPU"]) == (8, 0.25)


def test_how_many_share_a_gpu_follows_from_measured_memory_with_a_quarter_of_margin() -> None:
    assert cluster.share_of(10 * GIB, 80 * GIB) == 1 / 6
    assert cluster.share_of(70 * GIB, 80 * GIB) == 1
    assert cluster.share_of(0.1 * GIB, 80 * GIB) == 1 / 8


def test_without_a_measurement_auto_is_a_whole_gpu() -> None:
    assert size(gpus=2, gpus_per_worker="auto").device["GPU"] == 1


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("asked", ["0", "-1", "1.5", "2", "half", "nan"])
def test_a_part_of_a_gpu_that_cannot_be_is_refused(asked: str, gpus: int) -> None:
    with pytest.raises(ConfigurationError, match=f"--gpus-per-worker {asked}: give a part of a GPU as in 0.25"):
        size(gpus=gpus, gpus_per_worker=asked)


def test_a_cluster_that_grows_is_sized_by_what_it_may_become() -> None:
    head = {"driver": 1000.0, "most_gpus": 8.0}
    assert cluster._most({"driver": 1000.0, "CPU": 4.0}) == {}
    there = Cluster(
        "10.0.0.1:6379", 1, 0, 0, 32e9, True, most=cluster._most(head), node_resources=({**head, "memory": 32e9},)
    )
    asked = {"workers": 1, "backend": "train", "max_concurrent": None}
    assert cluster.size(there, 50, **asked).max_concurrent == 8
    assert cluster.size(there, 3, **asked).max_concurrent == 3
    assert cluster.size(there, 50, **asked).device == {"CPU": 1, "GPU": 1.0}


def test_a_trial_that_needs_more_devices_than_there_are_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"--workers 3 needs 3 GPUs for one trial, the cluster has 2; use --wor"
    ):
        size(gpus=2, workers=3, backend="train")
    with pytest.raises(ConfigurationError, match="--workers 2 needs --backend train"):
        size(workers=2)


def nodes(*gpus: float, **more: Any) -> Cluster:
    """A cluster of nodes with so many GPUs each."""
    resources = tuple({"GPU": one, "CPU": 8.0, "memory": 1e12} for one in gpus)
    return Cluster("here", len(gpus), 8.0 * len(gpus), sum(gpus), 1e12, False, node_resources=resources, **more)


def test_workers_that_share_a_node_are_counted_by_node() -> None:
    asked = {"workers": 2, "backend": "train", "max_concurrent": None}
    assert cluster.size(nodes(3, 3, 1), 50, **asked).max_concurrent == 3
    assert cluster.size(nodes(3, 3, 1), 50, on_one_node=True, **asked).max_concurrent == 2
    assert cluster.size(nodes(3, 3, 1), 50, on_one_node=True, gpus_per_worker="0.5", **asked).max_concurrent == 7


def test_workers_that_must_share_a_node_and_cannot_are_refused_unless_machines_are_to_come() -> None:
    asked = {"workers": 4, "backend": "train", "max_concurrent": None, "on_one_node": True}
    said = r"--workers 4 with --out on another file system needs 4 GPUs on one node, the largest has 2; use --workers 2, or an --out"
    with pytest.raises(ConfigurationError, match=said):
        cluster.size(nodes(2, 2, 1), 50, **asked)
    assert cluster.size(nodes(2, 2, most={"GPU": 12.0}), 50, **asked).max_concurrent == 2


ASKED = {"workers": 1, "backend": "tune", "max_concurrent": None}


def test_what_a_worker_gets_is_of_one_node() -> None:
    """Parts of a GPU are of one GPU, CPUs of one node."""
    assert cluster.size(nodes(2), 50, gpus_per_worker="0.6", **ASKED).max_concurrent == 2
    assert cluster.size(nodes(1, 1), 50, gpus_per_worker="0.3", **ASKED).max_concurrent == 6
    assert cluster.size(nodes(12), 50, **ASKED).max_concurrent == 8  # each wants a CPU too
    assert cluster.size(nodes(12), 50, cpus_per_worker="0.5", **ASKED).max_concurrent == 12
    assert cluster.size(nodes(0, 0), 50, cpus_per_worker="3", **ASKED).max_concurrent == 4
    assert cluster.size(nodes(0, 0), 50, cpus_per_worker="0.1", **ASKED).max_concurrent == 50


def test_threads_are_whole_and_what_ray_is_asked_for_is_not() -> None:
    assert (size(cpus_per_worker="4").threads, size(cpus_per_worker="4").device) == (4, {"CPU": 4})
    assert (size(cpus_per_worker="0.5").threads, size(cpus_per_worker="0.5").device) == (1, {"CPU": 0.5})


@pytest.mark.parametrize("asked", ["0", "-1", "1.5", "many", "nan", "inf"])
def test_cpus_that_cannot_be_are_refused(asked: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--cpus-per-worker {asked}: give a whole number up to 1024"):
        size(cpus_per_worker=asked)


@pytest.mark.parametrize(("gpus", "asked", "workers", "said"), [
    ((2,), {"gpus_per_worker": "0.6"}, 3, "--workers 3 with --cpus-per-worker 1 and --gpus-per-worker 0.6: the nodes hold 2 of .* use --workers 2"),
    ((0, 0), {"cpus_per_worker": "5"}, 3, "--workers 3 with --cpus-per-worker 5: the nodes hold 2 of .* use --workers 2"),
    ((0, 0), {"cpus_per_worker": "9"}, 1, "--cpus-per-worker 9: no machine has room for a worker of 9 CPU, the largest has 8 CPU; give at most --cpus-per-worker 8"),
])  # fmt: skip
def test_a_trial_that_would_wait_for_ever_is_refused(gpus: tuple, asked: dict, workers: int, said: str) -> None:
    asked = {**ASKED, "backend": "train", "workers": workers, **asked}
    with pytest.raises(ConfigurationError, match=said):
        cluster.size(nodes(*gpus), 50, **asked)
    most = {"GPU": 64.0} if any(gpus) else {"CPU": 64.0}
    assert cluster.size(nodes(*gpus, most=most), 50, **asked).max_concurrent >= 4


def test_where_the_driver_of_a_trial_takes_of_the_cpus_not_all_of_them_are_for_its_workers() -> None:
    def size(workers: int, has_driver_resource: bool = False, backend: str = "train") -> int:
        there = Cluster("here", 2, 5, 0, 1e12, has_driver_resource, node_resources=({"CPU": 3.0}, {"CPU": 2.0}))
        return cluster.size(there, 9, workers=workers, backend=backend, max_concurrent=None).max_concurrent

    assert size(5, has_driver_resource=True) == 1
    assert size(4) == 1
    with pytest.raises(ConfigurationError, match=r"needs 5 CPUs for one trial beside the process that .* --workers 4"):
        size(5)
    assert size(1, backend="tune") == 5  # the driver trains


def test_a_cluster_without_room_for_one_worker_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="no machine has room for a worker of 1 CPU, the largest has 0 CPU; add machines"
    ):
        cluster.size(Cluster("here", 1, 0, 0, 1e12, False, node_resources=({"CPU": 0.0},)), 9, **ASKED)


def test_a_cluster_that_is_gone_is_told_at_once() -> None:
    with socket.socket() as probe:  # bound and not listening: nobody answers, and nobody else takes the port
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=f"no Ray cluster answers at --address '{address}'"):
            with cluster.connected(address):
                pass


def sections(**arguments: Any) -> dict[str, Any]:
    return {"Trainer Arguments": arguments}


def test_trials_that_are_told_to_leave_the_gpus_take_none() -> None:
    node = {"CPU": 8.0, "GPU": 4.0, "memory": 100e9, "driver": 1000.0}
    there = Cluster("h:1", 1, 8, 4, 100e9, True, node_resources=(node,), most={"CPU": 8.0, "GPU": 16.0})
    asked: dict[str, Any] = {"workers": 1, "backend": "train", "max_concurrent": None}
    usual = cluster.size(cluster.for_trials(there, [sections(), sections(use_cpu=False)]), 50, **asked)
    assert (usual.use_gpu, usual.max_concurrent) == (True, 16)
    left = cluster.size(cluster.for_trials(there, [sections(use_cpu=True)] * 2), 50, **asked)
    assert (left.use_gpu, left.device, left.max_concurrent) == (False, {"CPU": 1}, 8)
    with pytest.raises(ConfigurationError, match="use_cpu is True for some trials and False for others"):
        cluster.for_trials(there, [sections(), sections(use_cpu=True)])


def test_a_ray_that_is_started_after_all_has_another_token_than_the_cluster_that_did_not_let_us_in(monkeypatch) -> None:
    from ray._raylet import AuthenticationTokenLoader

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "that of the cluster")
    loader = AuthenticationTokenLoader.instance()
    assert loader.has_token(ignore_auth_mode=True)  # Ray has read it
    cluster._draw_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    loader.reset_cache()
