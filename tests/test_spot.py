"""A spot machine is taken back while a trial runs on it: notice, drain, checkpoint, and the trial goes on on another node.

Real Ray with a raylet for each node, the watcher as a process of its own, the cloud's metadata server on loopback. Slow.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from launches import DEADLINE_SECONDS, ROOT, environment
from metadata_server import aws, served
from small_cluster import SmallCluster

from benchmarks import chaos
from launcher import results

pytestmark = [pytest.mark.cluster, pytest.mark.ray]

NOTICE, PATIENCE_SECONDS = timedelta(minutes=2), 2 * DEADLINE_SECONDS
# Long enough for a node to come and a notice to be heard well before its end, with few evaluations: Ray Train takes two a second.
LONG = ("--set", "num_train_epochs=300", "--set", "eval_strategy=steps", "--set", "eval_steps=20")
STUDY = ("--set", "reduction=mean", "--set", "seed=1", "--set", "groups=group", *LONG)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCluster]:
    started = SmallCluster(environment(tmp_path_factory.mktemp("home")))
    yield started
    started.end()


def watcher(cluster: SmallCluster, node: str, server: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "clusters" / "spot_watcher.py"), "aws", "--address", cluster.address]
    return subprocess.Popen(
        [*command, "--node-id", node, "--metadata", server, "--poll-seconds", "0.2"], env=cluster.environment,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def is_at_update(out: Path, update: int) -> bool:
    (progress,) = list(out.glob("trials/*/progress.json")) or [None]
    return progress is not None and json.loads(progress.read_text())["update"] >= update


@pytest.fixture(scope="module")
def undisturbed(cluster: SmallCluster, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Runs the study where nothing happens, with so many workers on as many nodes."""

    @functools.cache
    def run(workers: int) -> Path:
        nodes = [f"127.0.9.{number + 1}" for number in range(workers)]
        for node in nodes:
            cluster.add(node)
        out, backend = tmp_path_factory.mktemp("undisturbed") / "out", "tune" if workers == 1 else "train"
        conclude(cluster.launch(out, data, *STUDY, "--backend", backend, "--workers", str(workers)))
        for node in nodes:
            cluster.kill(node)
        return out

    return run


def conclude(process: subprocess.Popen[str]) -> str:
    _, told = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, told
    return told


@dataclass
class Disturbed:
    """What became of a study whose node went."""

    out: Path
    leaving: str
    watched: str

    def attempts(self) -> tuple[int, list[dict[str, str]]]:
        (folder,) = self.out.glob("trials/*")
        record = results.attempts(folder)
        return record["attempts"], record["ended"]


def disturb(
    cluster: SmallCluster, data: Path, out: Path, *, workers: int, backend: str, nodes: list[str], notice: bool
) -> Disturbed:
    """Run the study; the first of its nodes goes once the trial is under way, and the last comes: not before."""
    leaving = cluster.add(nodes[0])
    for node in nodes[1:workers]:
        cluster.add(node)
    end: list[str] = []
    turn = threading.Lock()  # the watcher asks again while a node comes up

    def taken_back() -> str | None:
        with turn:
            if not end and is_at_update(out, 3):
                cluster.add(nodes[-1])
                end.append(f"{datetime.now(timezone.utc) + NOTICE:%Y-%m-%dT%H:%M:%SZ}")
                if not notice:
                    cluster.kill(nodes[0])
        return end[0] if end and notice else None

    with served(aws(taken_back)) as server:
        watching = watcher(cluster, leaving, server)
        launched = cluster.launch(out, data, *STUDY, "--backend", backend, "--workers", str(workers))
        watched = conclude(watching)
    conclude(launched)
    for node in nodes if notice else nodes[1:]:
        cluster.kill(node)
    return Disturbed(out, leaving, watched)


@pytest.mark.parametrize(("backend", "workers"), [("tune", 1), ("train", 2)])
def test_a_trial_leaves_a_spot_machine_in_time_and_ends_elsewhere_as_if_nothing_had_been(
    cluster, data: Path, undisturbed, tmp_path: Path, backend: str, workers: int
) -> None:
    nodes = [f"127.0.{workers}.{number + 1}" for number in range(workers + 1)]
    found = disturb(cluster, data, tmp_path / "out", workers=workers, backend=backend, nodes=nodes, notice=True)
    assert f"Ray drains node {found.leaving} until" in found.watched
    number, (entry,) = found.attempts()
    assert (number, entry["class"]) == (2, "preempted")
    told = re.match(
        rf"node {nodes[0]} is taken away at (\S+); went behind the checkpoint of update \d+$", entry["error"]
    )
    assert told is not None
    assert datetime.fromisoformat(entry["time"]) < datetime.fromisoformat(told[1])
    assert list(results.load(found.out).results["broken_off"]) == ["1 preempted"]
    assert chaos.compare(undisturbed(workers), found.out) == []


def test_a_node_that_dies_without_notice_costs_one_attempt_and_changes_nothing(
    cluster, data: Path, undisturbed, tmp_path: Path
) -> None:
    """With Ray Train; with `--backend tune` a host of tests/test_hosts.py loses its power."""
    nodes = [f"127.0.4.{number}" for number in (1, 2)]
    found = disturb(cluster, data, tmp_path / "out", workers=1, backend="train", nodes=nodes, notice=False)
    assert "the node has left the cluster" in found.watched
    number, (entry,) = found.attempts()
    assert (number, entry["class"]) == (2, "worker lost")
    assert chaos.compare(undisturbed(1), found.out) == []
