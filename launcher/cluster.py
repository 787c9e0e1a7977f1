"""Connect to Ray, local or remote, and size the trials to what is there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from launcher.config import ConfigurationError

DRIVER = "driver"
_LOCAL_DRIVERS = 1000
_BYTES_PER_TRIAL = {"train": 2.5e9, "tune": 1.5e9}
"""Memory of one concurrent trial beside its data: with Ray Train seven helper processes (about 1 GB) and the worker."""
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # The controller takes one report per interval; the default of 2 s would stall short epochs.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Our own tables and TensorBoard files replace Tune's; our own handler of Ctrl-C replaces Tune's.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Workers write into the folder they are told, by absolute path.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_LOCAL_ENVIRONMENT = {
    # One process less per trial: nobody preempts the machine that the study was started on.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


@dataclass(frozen=True)
class Cluster:
    """What Ray has to give.

    Attributes:
        address: where it is; None: it was started for this study and ends with it.
        nodes: alive nodes.
        cpus: CPUs of all of them.
        gpus: GPUs of all of them.
        memory_bytes: memory that Ray counts on all of them.
        has_driver_resource: the head carries the custom resource that trial drivers are placed by.
    """

    address: str | None
    nodes: int
    cpus: float
    gpus: float
    memory_bytes: float
    has_driver_resource: bool


@dataclass(frozen=True)
class Sizing:
    """How trials are placed.

    Attributes:
        workers: workers of one trial.
        use_gpu: one GPU for each worker.
        cpus_per_worker: CPUs, and so threads, of one worker.
        max_concurrent: trials at a time.
    """

    workers: int
    use_gpu: bool
    cpus_per_worker: int
    max_concurrent: int


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine for the time of the block.

    Token authentication is always on. A local cluster gets a token of its own that is written nowhere; a remote one
    uses the caller's (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token).

    Raises:
        ConfigurationError: no cluster answers at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.update({name: os.environ.get(name, value) for name, value in _LOCAL_ENVIRONMENT.items()})
    import ray

    try:
        ray.init(**(_local() if address is None else _remote(address)))
    except ConnectionError as error:
        raise ConfigurationError(
            f"no Ray cluster answers at --address {address!r} ({error}); check `ray status` there and that "
            "RAY_AUTH_TOKEN or ~/.ray/auth_token holds its token"
        ) from error
    try:
        resources = ray.cluster_resources()
        yield Cluster(
            address=address,
            nodes=sum(1 for node in ray.nodes() if node["Alive"]),
            cpus=resources.get("CPU", 0.0),
            gpus=resources.get("GPU", 0.0),
            memory_bytes=resources.get("memory", 0.0),
            has_driver_resource=DRIVER in resources,
        )
    finally:
        ray.shutdown()


def size(
    cluster: Cluster, trials: int, *, workers: int, backend: str, max_concurrent: int | None, cpus_per_worker: int = 1
) -> Sizing:
    """Decide how many trials run at a time.

    One device per worker. The number of threads of a worker does not depend on how busy the machine is: sums in another
    order would change the last bit of the results.

    Raises:
        ConfigurationError: a trial needs more devices than the cluster has.
    """
    use_gpu = cluster.gpus >= 1
    have, device = (int(cluster.gpus), "GPU") if use_gpu else (int(cluster.cpus) // cpus_per_worker, "CPU")
    if workers > have:
        raise ConfigurationError(
            f"--workers {workers} needs {workers} {device}s for one trial, the cluster has {have}; use --workers {max(1, have)}"
        )
    if backend == "tune" and workers > 1:
        raise ConfigurationError(f"--workers {workers} needs --backend train; --backend tune runs one worker per trial")
    room = max(1, int(cluster.memory_bytes / _BYTES_PER_TRIAL[backend])) if cluster.memory_bytes else have
    allowed = max_concurrent if max_concurrent is not None else trials
    concurrent = max(1, min(have // workers, allowed, room, trials))
    return Sizing(workers, use_gpu, cpus_per_worker, concurrent)


def _local() -> Mapping[str, Any]:
    # Without the dashboard's State API, Ray Train does not free the placement group of a trial that was stopped or
    # killed, and the next trial on a full machine waits for ever.
    return {
        "address": "local",
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "_node_ip_address": "127.0.0.1",  # some ports of Ray listen everywhere all the same; the token guards them
        "resources": {DRIVER: _LOCAL_DRIVERS},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }


def _remote(address: str) -> Mapping[str, Any]:
    return {
        "address": address,
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": dict(_ENVIRONMENT)},
    }
