"""A cluster of several raylets on this machine, apart from every other, and what the processes of its head use."""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from launcher import cluster

_STARTING = "RAY_worker_maximum_startup_concurrency"


@dataclass
class Head:
    """The processes that the head of this cluster holds."""

    address: str
    node: Any

    def processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Name each process by what it is; children that ended meanwhile are left out."""
        yield "launch", psutil.Process()
        for kind, started in self.node.all_processes.items():
            for one in started:
                top = psutil.Process(one.process.pid)
                yield kind, top
                for child in top.children(recursive=True):
                    yield _kind(child, kind), child

    def memory(self) -> dict[str, dict[str, float]]:
        """Return PSS and USS in bytes and the number of processes, by kind."""
        found: dict[str, Counter[str]] = {}
        for kind, process in self.processes():
            try:
                used = process.memory_full_info()
            except psutil.NoSuchProcess:
                continue  # ended since it was listed
            found.setdefault(kind, Counter()).update({"pss": int(used.pss), "uss": int(used.uss), "processes": 1})
        return {kind: dict(counted) for kind, counted in found.items()}

    def cpu(self) -> dict[str, float]:
        """Return processor seconds by kind since each process began, those of ended children with their parents."""
        found: dict[str, float] = {}
        for kind, process in self.processes():
            try:
                found[kind] = found.get(kind, 0.0) + sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue  # ended since it was listed
        return found

    def object_store_bytes(self) -> float:
        """Return what the head's object store holds."""
        import ray
        from ray._private.state import available_resources_per_node  # there is no public way in 2.60

        node = self.node.node_id
        free = available_resources_per_node()[node]["object_store_memory"]
        there = next(known["Resources"] for known in ray.nodes() if known["NodeID"] == node)
        return there["object_store_memory"] - free


@contextmanager
def started(nodes: int, trials: int, starting: int) -> Iterator[Head]:
    """Start a head without CPUs, and nodes that have enough for the trials between them.

    Args:
        nodes: beside the head.
        trials: at a time, of one CPU each.
        starting: processes that the head starts at a time; 0: as Ray has it.
    """
    from ray.cluster_utils import Cluster

    machines = Cluster()
    try:
        if starting:
            os.environ[_STARTING] = str(starting)
        head = machines.add_node(
            num_cpus=0,
            resources={cluster.DRIVER: 1000},
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=0,
        )
        os.environ.pop(_STARTING, None)
        for _ in range(nodes):
            machines.add_node(num_cpus=-(-trials // nodes))
        yield Head(head.gcs_address, head)
    finally:
        machines.shutdown()


def keep_apart(folder: Path) -> None:
    """Give this process, and the cluster that it starts, a token, addresses and sessions of its own.

    Args:
        folder: for them; Ray's sockets want a short path.
    """
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    (folder / "home").mkdir()
    os.environ |= {
        "HOME": str(folder / "home"),
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # The nodes pretend to have CPUs; Ray would start as many processes in advance.
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_worker_prestart": "0",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }


def _kind(process: psutil.Process, parent: str) -> str:
    """Name a process as Ray titles it; what has no title belongs to its parent."""
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return parent
    told = re.match(r"ray::(\w+)", words[0] if words else "")
    return told[1] if told else f"{parent}'s"
