"""What a launch would find on this machine, told without starting Ray: for plans."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher import address as addresses
from launcher import cgroups, cluster
from launcher.cluster import Cluster, Sizing
from launcher.config import ConfigurationError
from launcher.doctor_software import cards
from launcher.quantities import size
from launcher.start import Placing

Sections = Mapping[str, Mapping[str, Any]]

_GPU = re.compile(r"nvidia\d+")
SHARE_OF_MEMORY = 0.7
"""Of the memory that is free Ray keeps the rest back for its object store."""


def sizing(placing: Placing, trials: Sequence[Sections], measured_bytes: Mapping[str, float]) -> tuple[Sizing, str]:
    """Guess how many trials would run at a time.

    Args:
        placing: what the command line says of it.
        trials: the sections of the configuration of each trial to run.
        measured_bytes: highest memory of a trial, by "CPU" and "GPU", as far as it is known.

    Returns:
        the sizing, and in words what it was guessed from.
    """
    address = addresses.choose(placing.address).address
    if address is not None:
        concurrent = min(placing.max_concurrent or 1, max(1, len(trials)))
        told = "--max-concurrent" if placing.max_concurrent else f"assumed: {address} is not asked for a plan"
        return Sizing(placing.workers, False, 1, concurrent), told
    try:
        found = cluster.for_trials(here(), trials)
        sized = cluster.size(
            found, max(1, len(trials)), workers=placing.workers, backend=placing.backend,
            max_concurrent=placing.max_concurrent, gpus_per_worker=_gpu_share(placing, measured_bytes), cpus_per_worker=placing.cpus_per_worker,
            measured_bytes=measured_bytes,
        )  # fmt: skip
    except ConfigurationError as error:
        return Sizing(placing.workers, False, 1, 1), f"assumed: on this machine it would be refused ({error})"
    words = f"{found.gpus:g} GPUs" if found.gpus else f"{found.cpus:g} CPU cores"
    return sized, f"{words} here, {size(found.memory_bytes)} of memory for trials"


def check(placing: Placing, trials: Sequence[Sections]) -> None:
    """Refuse what the Ray that would be started here could never run, before data are prepared and Ray starts.

    Args:
        placing: what the command line says; where it leads to a cluster, the cluster is asked later.
        trials: the sections of the configuration of each trial.

    Raises:
        ConfigurationError: a trial needs more than this machine has, or some trials are to use GPUs and some are not.
    """
    more = placing.workers > 1 or placing.cpus_per_worker != "1"
    if more and addresses.choose(placing.address).address is None:
        cluster.size(
            cluster.for_trials(here(), trials), 1, workers=placing.workers, backend=placing.backend, max_concurrent=1,
            gpus_per_worker=placing.gpus_per_worker, cpus_per_worker=placing.cpus_per_worker,
        )  # fmt: skip


def here(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> Cluster:
    """Describe this machine the way a local Ray would count it.

    Args:
        root: where control groups are mounted.
        membership: names those that this process is in.
    """
    return Cluster(
        address=None,
        nodes=1,
        cpus=float(counted_cores(root, membership)),
        gpus=float(_gpus()),
        memory_bytes=SHARE_OF_MEMORY * _free_bytes(root, membership),
        has_driver_resource=True,
    )


def counted_cores(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> int:
    """Count the cores as Ray does: all that there are, within the limit where it looks for one, whoever may use them."""
    there, limit = os.cpu_count() or 1, cgroups.cores(root, membership, ray_sees=True)
    return there if limit is None else max(1, min(there, int(limit.value)))


def usable_cores(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> float:
    """Return how many cores this process may use at a time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroups.cores(root, membership)
    return allowed if limit is None else min(allowed, limit.value)


def _gpu_share(placing: Placing, measured_bytes: Mapping[str, float]) -> str:
    """Work out what `auto` comes to where no Ray can be asked how large the GPUs are."""
    if placing.gpus_per_worker != "auto" or not measured_bytes.get("GPU"):
        return placing.gpus_per_worker
    return str(cluster.share_of(measured_bytes["GPU"], min((card.memory_bytes for card in cards()), default=0.0)))


def _gpus(listed: Path = Path("/dev")) -> int:
    """Count the GPUs that CUDA would show, of those that the driver lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [path for path in listed.glob("nvidia*") if _GPU.fullmatch(path.name)]
    if visible is None:
        return len(devices)
    return min(len(devices), len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))


def _free_bytes(root: Path, membership: Path) -> float:
    """Return the memory that is free; 0 where that is not known, which sets no limit."""
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text(encoding="utf-8")) if meminfo.is_file() else None
    if found is None:
        return 0.0
    available, limit = int(found[1]) * 1024.0, cgroups.memory_bytes(root, membership, ray_sees=True)
    return available if limit is None else min(available, limit.value - limit.used)
