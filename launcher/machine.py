"""What a launch would find on this machine, told without starting Ray: for plans."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from launcher import cgroups, cluster
from launcher.cluster import Cluster, Sizing
from launcher.config import ConfigurationError
from launcher.start import Placing

_GPU = re.compile(r"nvidia\d+")
# What Ray keeps back for its object store.
_SHARE_OF_MEMORY = 0.7


def sizing(placing: Placing, trials: int, measured_bytes: Mapping[str, float]) -> tuple[Sizing, str]:
    """Guess how many trials would run at a time.

    Args:
        placing: what the command line says of it.
        trials: trials to run.
        measured_bytes: highest memory of a trial, by "CPU" and "GPU", as far as it is known.

    Returns:
        the sizing, and in words what it was guessed from.
    """
    address = placing.address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        concurrent = min(placing.max_concurrent or 1, max(1, trials))
        told = "--max-concurrent" if placing.max_concurrent else f"assumed: {address} is not asked for a plan"
        return Sizing(placing.workers, False, 1, concurrent), told
    found = here()
    words = f"{found.gpus:g} GPUs" if found.gpus else f"{found.cpus:g} CPU cores"
    try:
        sized = cluster.size(
            found, max(1, trials), workers=placing.workers, backend=placing.backend,
            max_concurrent=placing.max_concurrent, gpus_per_worker=placing.gpus_per_worker, measured_bytes=measured_bytes,
        )  # fmt: skip
    except ConfigurationError as error:
        return Sizing(placing.workers, False, 1, 1), f"assumed: on this machine it would be refused ({error})"
    return sized, f"{words} here, {found.memory_bytes / 1e9:.0f} GB of memory for trials"


def here() -> Cluster:
    """Describe this machine the way a local Ray would count it."""
    return Cluster(
        address=None,
        nodes=1,
        cpus=float(_cores()),
        gpus=float(_gpus()),
        memory_bytes=_memory_bytes(),
        has_driver_resource=True,
    )


def _cores() -> int:
    """Count the cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroups.cores()
    return allowed if limit is None else max(1, min(allowed, int(limit.value)))


def _gpus() -> int:
    """Count the GPUs that CUDA would show."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [path for path in Path("/dev").glob("nvidia*") if _GPU.fullmatch(path.name)]
    if visible is None:
        return len(devices)
    return min(len(devices), len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))


def _memory_bytes() -> float:
    """Return the memory that trials can have; 0 where that is not known, which sets no limit."""
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text(encoding="utf-8")) if meminfo.is_file() else None
    if found is None:
        return 0.0
    available, limit = int(found[1]) * 1024.0, cgroups.memory_bytes()
    return _SHARE_OF_MEMORY * (available if limit is None else min(available, limit.value - limit.used))
