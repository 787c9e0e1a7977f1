"""Connect to Ray, local or remote, and size the trials to what is there."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from launcher.config import ConfigurationError

DRIVER = "driver"
_LOCAL_DRIVERS = 1000
_HELPER_BYTES = {"train": 1.0e9, "tune": 0.0}
"""Memory of the seven processes with which Ray Train helps one concurrent trial."""
_GUESSED_BYTES = 1.5e9
"""Memory of one worker before any trial has been measured."""
_MEETING_SECONDS = 20.0
_MARGIN, _MAX_TRIALS_PER_GPU = 1.25, 8
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
        dashboard: host:port of Ray's dashboard, as Ray tells it; "": it has none.
    """

    address: str | None
    nodes: int
    cpus: float
    gpus: float
    memory_bytes: float
    has_driver_resource: bool
    dashboard: str = ""


@dataclass(frozen=True)
class Sizing:
    """How trials are placed.

    Attributes:
        workers: workers of one trial.
        use_gpu: one GPU for each worker.
        cpus_per_worker: CPUs, and so threads, of one worker.
        max_concurrent: trials at a time.
        gpus_per_worker: part of a GPU that one worker gets, or several.
    """

    workers: int
    use_gpu: bool
    cpus_per_worker: int
    max_concurrent: int
    gpus_per_worker: float = 1.0

    @property
    def device(self) -> dict[str, float]:
        """What one worker asks Ray for."""
        return {"CPU": self.cpus_per_worker, **({"GPU": self.gpus_per_worker} if self.use_gpu else {})}


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
    else:
        _meet(address)
    import ray

    try:
        context = ray.init(**(_local() if address is None else _remote(address)))
    except ConnectionError as error:
        raise _no_answer(address, error) from error
    try:
        resources = ray.cluster_resources()
        yield Cluster(
            address=address,
            nodes=sum(1 for node in ray.nodes() if node["Alive"]),
            cpus=resources.get("CPU", 0.0),
            gpus=resources.get("GPU", 0.0),
            memory_bytes=resources.get("memory", 0.0),
            has_driver_resource=DRIVER in resources,
            dashboard=context.dashboard_url or "",
        )
    finally:
        ray.shutdown()


def size(
    cluster: Cluster,
    trials: int,
    *,
    workers: int,
    backend: str,
    max_concurrent: int | None,
    gpus_per_worker: str = "1",
    measured_bytes: Mapping[str, float] | None = None,
    cpus_per_worker: int = 1,
) -> Sizing:
    """Decide how many trials run at a time.

    One device, or part of one, per worker. The number of threads of a worker does not depend on how busy the machine is:
    sums in another order would change the last bit of the results.

    Args:
        cluster: what there is.
        trials: how many are to run.
        workers: of one trial.
        backend: "train" or "tune".
        max_concurrent: upper bound; None: as many as there is room for.
        gpus_per_worker: a number, or "auto".
        measured_bytes: highest memory of finished trials, by "CPU" and "GPU"; without it a guess stands in.
        cpus_per_worker: CPUs, and so threads, of one worker.

    Raises:
        ConfigurationError: a trial needs more devices than the cluster has.
    """
    measured, use_gpu = measured_bytes or {}, cluster.gpus >= 1
    asked = _part_of_gpu(gpus_per_worker)  # what cannot be is told without a GPU too
    share = (asked or _measured_part(measured.get("GPU"))) if use_gpu else 1.0
    have, device = (int(cluster.gpus / share), "GPU") if use_gpu else (int(cluster.cpus) // cpus_per_worker, "CPU")
    if workers > have:
        raise ConfigurationError(
            f"--workers {workers} needs {workers * share:g} {device}s for one trial, the cluster has "
            f"{cluster.gpus if use_gpu else have:g}; use --workers {max(1, have)}"
        )
    if backend == "tune" and workers > 1:
        raise ConfigurationError(f"--workers {workers} needs --backend train; --backend tune runs one worker per trial")
    process = measured.get("CPU", 0.0) * _MARGIN or _GUESSED_BYTES
    needed = _HELPER_BYTES[backend] + workers * (_GUESSED_BYTES if use_gpu else process)
    room = max(1, int(cluster.memory_bytes / needed)) if cluster.memory_bytes else have
    allowed = max_concurrent if max_concurrent is not None else trials
    concurrent = max(1, min(have // workers, allowed, room, trials))
    return Sizing(workers, use_gpu, cpus_per_worker, concurrent, share)


def _part_of_gpu(asked: str) -> float | None:
    """Return the part of a GPU for one worker; None: by what was measured."""
    if asked == "auto":
        return None
    try:
        part = float(asked)
    except ValueError:
        part = 0.0
    if not (0 < part < 1 or part in range(1, 65)):
        raise ConfigurationError(f"--gpus-per-worker {asked}: give a part of a GPU as in 0.25, a whole number, or auto")
    return part


def _measured_part(measured_bytes: float | None) -> float:
    return 1.0 if not measured_bytes else share_of(measured_bytes, _gpu_bytes())


def share_of(measured_bytes: float, gpu_bytes: float) -> float:
    """Return the smallest 1/n of a GPU that holds a worker with a margin of a quarter, n at most 8.

    Args:
        measured_bytes: highest memory of a finished trial.
        gpu_bytes: memory of the smallest GPU.
    """
    return 1 / max(1, min(_MAX_TRIALS_PER_GPU, int(gpu_bytes / (measured_bytes * _MARGIN))))


def _gpu_bytes() -> float:
    """Ask every node with a GPU how much memory its first one has; the smallest counts."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def ask() -> float:
        import torch  # on the node, not here

        return float(torch.cuda.get_device_properties(0).total_memory)

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    asked = ray.remote(num_gpus=1)(ask)
    return min(
        ray.get([asked.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in nodes])
    )  # fmt: skip


def _local() -> Mapping[str, Any]:
    # Without the dashboard's State API, Ray Train does not free the placement group of a trial that was stopped or
    # killed, and the next trial on a full machine waits for ever.
    # Ray Train asks it without an address, and so might find the cluster of somebody else on this machine, or one that
    # is gone and left its name in /tmp/ray: every process is told where ours is.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
    return {
        "address": "local",
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": port,
        **_quoted_python(),
        "_node_ip_address": "127.0.0.1",  # some ports of Ray listen everywhere all the same; the token guards them
        "resources": {DRIVER: _LOCAL_DRIVERS},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }


def _quoted_python() -> Mapping[str, Any]:
    """Ray hands the path of Python to a shell as it is: below a folder with a space no worker would start."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"runtime_env": {"py_executable": quoted}}


def _meet(address: str) -> None:
    """Look whether anybody listens at host:port; Ray itself asks a host that is gone for minutes.

    Raises:
        ConfigurationError: nobody does.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address or not port.isdecimal():
        return  # auto, local, ray://
    try:
        socket.create_connection((host.strip("[]"), int(port)), _MEETING_SECONDS).close()
    except OSError as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str | None, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"no Ray cluster answers at --address {address!r} ({error}); check `ray status` there and that "
        "RAY_AUTH_TOKEN or ~/.ray/auth_token holds its token"
    )


def _remote(address: str) -> Mapping[str, Any]:
    return {
        "address": address,
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": dict(_ENVIRONMENT)},
    }
