"""A cluster that starts from nothing, and nodes that are not fit for a launch: a real Ray with a raylet for each node. Slow."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from launches import DEADLINE_SECONDS, environment
from small_cluster import SmallCluster

pytestmark = [pytest.mark.cluster, pytest.mark.ray]

STUDY = ("--set", "seed=1", "--set", "num_train_epochs=2", "--set", "groups=group")
GOOD, ALONE, LATE, TAKEN = (f"127.0.8.{number}" for number in range(1, 5))
_OTHER = """
import logging, ray
ray.init(address={address!r}, log_to_driver=False, logging_level=logging.ERROR)
class Other:
    pass
other = ray.remote(num_cpus=1)(Other).remote()
ray.get(other.__ray_ready__.remote())
print("held", flush=True)
input()
"""
_WORKERS = """
import json, logging, ray
from ray.util.state import list_actors
ray.init(address={address!r}, log_to_driver=False, logging_level=logging.ERROR)
print(json.dumps([one.node_id for one in list_actors(address={address!r}, limit=1000) if one.class_name == "RayTrainWorker"]))
"""


@pytest.fixture(scope="module")
def old_transformers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that makes Python say that transformers is of another version."""
    folder = tmp_path_factory.mktemp("old")
    about = folder / "transformers-4.0.0.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.0.0\n")
    return str(folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCluster]:
    started = SmallCluster(environment(tmp_path_factory.mktemp("home")), most_cpus=3)
    yield started
    started.end()


@pytest.fixture
def node_with_a_folder_of_its_own(cluster: SmallCluster, tmp_path: Path) -> Iterator[Path]:
    """Start a node that sees another folder where the study lies, as one that has not mounted the shared disk."""
    out = tmp_path / "out"
    out.mkdir()
    command = f'mount -t tmpfs none "{out}" && exec ray start --address={cluster.address} --block --num-cpus=1 '
    command += f"--node-ip-address={ALONE} --object-store-memory=100000000 --disable-usage-stats"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    node = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", command],
        env={**cluster.environment, "PATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield out
    node.kill()
    node.wait()


@pytest.mark.parametrize("backend", ["train", "tune"])
def test_a_study_that_waits_for_machines_ends_at_one_ctrl_c(
    cluster: SmallCluster, data: Path, tmp_path: Path, backend: str
) -> None:
    running = cluster.launch(tmp_path / "out", data, *STUDY, "--set", "reduction=mean,sum", "--backend", backend)
    try:
        until(running, [], "waiting for machines: 0 of 2 CPUs are there")
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=DEADLINE_SECONDS)
    finally:
        running.kill()
    assert running.returncode == 130, told
    assert "interrupted; to go on:" in told


@pytest.fixture
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCluster]:
    """A cluster that does not grow, and somebody else on it who holds its one CPU."""
    started = SmallCluster(environment(tmp_path_factory.mktemp("home")))
    started.add(TAKEN)
    other = subprocess.Popen(
        [sys.executable, "-c", _OTHER.format(address=started.address)], env=started.environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    yield started
    other.communicate()
    started.end()


def test_a_study_that_waits_for_what_others_hold_ends_at_one_ctrl_c(
    taken: SmallCluster, data: Path, tmp_path: Path
) -> None:
    running = taken.launch(tmp_path / "out", data, *STUDY, "--set", "reduction=mean", "--backend", "train")
    try:
        until(running, [], "waits: others hold the devices that it wants")
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=DEADLINE_SECONDS)
    finally:
        running.kill()
    assert running.returncode == 130, told


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount of its own for a process needs root")
def test_a_cluster_without_machines_is_waited_for_and_unfit_ones_are_named_and_run_nothing(
    cluster: SmallCluster, data: Path, old_transformers: str, node_with_a_folder_of_its_own: Path
) -> None:
    out = node_with_a_folder_of_its_own
    cluster.until_nodes(2)
    running = cluster.launch(out, data, *STUDY, "--set", "reduction=mean,sum", "--backend", "train")
    told: list[str] = []
    try:
        until(running, told, "waiting for machines: 0 of 2 CPUs are there")
        assert f"({ALONE}" in until(running, told, "NOT USED", among_earlier=True)
        unfit = cluster.add(LATE, old_transformers)
        late = until(running, told, f"NOT USED: node {socket.gethostname()} ({LATE}")
        assert "transformers 4.0.0, the launch has" in late
        good = cluster.add(GOOD)
        rest, _ = running.communicate(timeout=2 * DEADLINE_SECONDS)
    finally:
        running.kill()
    assert running.returncode == 0, (told, rest)
    (alone,) = (line for line in told if f"({ALONE}" in line)
    assert f"{out} is not the folder that the launch writes to" in alone
    assert "2 trials at a time, 1 CPU worker(s) each" in told
    nodes = json.loads((out / "nodes.json").read_text())["nodes"]
    assert {one["address"]: one["fit"] for one in nodes if one["resources"].get("CPU")} == {
        GOOD: True, LATE: False, ALONE: False,
    }  # fmt: skip
    asked = [sys.executable, "-c", _WORKERS.format(address=cluster.address)]
    ran = subprocess.run(asked, env=cluster.environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    used = set(json.loads(ran.stdout.splitlines()[-1]))
    assert good in used
    # Never the one that was refused at the start, also after a second one was. A worker may have come to the late node
    # before that was judged, and sent itself away: no attempt is counted.
    assert used <= {good, unfit}
    begun = [json.loads(path.read_text()) for path in out.glob("trials/*/attempts.json")]
    assert [(one["attempts"], one["ended"]) for one in begun] == [(1, []), (1, [])]
    assert not list(out.glob(".preflight-*"))


def until(running: subprocess.Popen[str], told: list[str], words: str, *, among_earlier: bool = False) -> str:
    """Read what a launch says until a line holds these words; return that line."""
    for line in told if among_earlier else ():
        if words in line:
            return line
    assert running.stderr is not None
    late = threading.Timer(DEADLINE_SECONDS, running.kill)
    late.start()
    try:
        for line in running.stderr:
            told.append(line.rstrip())
            if words in line:
                return line
    finally:
        late.cancel()
    raise AssertionError(f"the launch ended without saying {words!r}: {told}")
