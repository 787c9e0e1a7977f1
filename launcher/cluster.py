"""Connect to Ray, local or remote, and size the trials to what is there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from launcher import address as addresses
from launcher import devices, local_ray, node, room, snapshot
from launcher.config import ConfigurationError
from launcher.interrupts import own_sigterm

DRIVER, DRIVER_CPUS = "driver", 0.01
"""What the process that drives a trial asks Ray for: the resource of our heads, elsewhere hardly any of a CPU."""
MOST = {"CPU": "most_cpus", "GPU": "most_gpus"}
"""Resources by which the head of a cluster that grows says how far; Ray's autoscaler tells it to nobody (2.60)."""
_HELPER_BYTES = {"train": 1.0e9, "tune": 0.0}
"""Memory of the processes with which Ray Train helps one concurrent trial, all where its driver is (benchmarks/cluster_scale.py)."""
_GUESSED_BYTES = 1.5e9
"""Memory of one worker before any trial has been measured."""
_MARGIN, _MAX_TRIALS_PER_GPU = 1.25, 8
_TOKEN = {"RAY_AUTH_MODE": "token"}
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # The controller takes one report per interval; the default of 2 s would stall short epochs.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Our own tables and TensorBoard files replace Tune's; our own handler of Ctrl-C replaces Tune's.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Workers write into the folder they are told, by absolute path.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # One process less per trial: workers ask themselves whether their node is taken away (launcher.draining).
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
        node_resources: what each alive node has; empty: all of it is one machine.
        most: CPUs and GPUs of all machines that the cluster may grow to; empty: it does not grow.
        refused: ids of the nodes that may not run trials (launcher.guard); what they have is not counted.
        code: hash of the code that the workers run.
        is_open: it asks nobody for a token.
    """

    address: str | None
    nodes: int
    cpus: float
    gpus: float
    memory_bytes: float
    has_driver_resource: bool
    dashboard: str = ""
    node_resources: tuple[Mapping[str, float], ...] = ()
    most: Mapping[str, float] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    code: str | None = None
    is_open: bool = False


@dataclass(frozen=True)
class Sizing:
    """How trials are placed.

    Attributes:
        workers: workers of one trial.
        use_gpu: one GPU for each worker.
        cpus_per_worker: CPUs of one worker, or a part of one.
        max_concurrent: trials at a time.
        gpus_per_worker: part of a GPU that one worker gets, or all of it.
        limit: why fewer trials run at a time than there are devices for; "": they do not.
    """

    workers: int
    use_gpu: bool
    cpus_per_worker: float
    max_concurrent: int
    gpus_per_worker: float = 1.0
    limit: str = ""

    @property
    def threads(self) -> int:
        """Threads of one worker."""
        return max(1, int(self.cpus_per_worker))

    @property
    def device(self) -> dict[str, float]:
        """What one worker asks Ray for."""
        return {"CPU": self.cpus_per_worker, **({"GPU": self.gpus_per_worker} if self.use_gpu else {})}


@contextmanager
def connected(choice: addresses.Choice | str | None) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine for the time of the block.

    Token authentication is always on: a local cluster gets a token of its own that is written nowhere, whatever RAY_AUTH_MODE
    says; a remote one uses the caller's (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token). One that asks for none
    is joined where RAY_AUTH_MODE=disabled says that this is meant.

    Args:
        choice: where; an address, or None, as --address.

    Raises:
        ConfigurationError: no cluster answers at the address, it asks for no token, or runs another Ray or Python.
    """
    choice = choice if isinstance(choice, addresses.Choice) else addresses.choose(choice)
    is_open = choice.address is not None and addresses.is_open(choice.address)
    kept = {name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()}
    os.environ.update(kept | ({} if is_open else _TOKEN))
    address = choice.address
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    with own_sigterm():
        context, code = (None, None) if address is None else _joined(choice, is_open=is_open)
        if context is None:
            if address is not None:
                _draw_token()
            address, context = None, ray.init(**local_ray.arguments(DRIVER))
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
            node_resources=tuple(node["Resources"] for node in ray.nodes() if node["Alive"]),
            most={} if address is None else _most(resources),
            code=code,
            is_open=is_open and address is not None,
        )
    finally:
        ray.shutdown()


def _joined(choice: addresses.Choice, *, is_open: bool) -> tuple[Any, str | None]:
    """Join a cluster, send the code along; return Ray's context (None: found, and not of this user) and the code's hash."""
    import ray
    from ray.exceptions import AuthenticationError

    address, was_found = choice.address or "", choice.was_found
    with snapshot.taken() as folder:
        # Nodes that were started without a token have none to give to their workers.
        variables = dict(_ENVIRONMENT) if is_open else {**_ENVIRONMENT, **_TOKEN}
        environment = {"env_vars": variables, **({} if folder is None else {"working_dir": str(folder)})}
        asked: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
        try:
            context = ray.init(**asked, runtime_env=environment)
        except ConnectionError as error:
            if was_found:
                return None, None
            raise addresses.no_answer(address, error) from error
        except AuthenticationError as error:
            if was_found:
                return None, None
            raise addresses.not_let_in(address) from error
        except RuntimeError as error:
            raise addresses.other_versions(address, error) or error from error
        return context, node.code(folder)


def _draw_token() -> None:
    """Give the Ray that is started here a token of its own: that of the cluster which did not let us in is for others."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    os.environ.update(_TOKEN, RAY_AUTH_TOKEN=secrets.token_hex(32))
    AuthenticationTokenLoader.instance().reset_cache()  # Ray has read the other one


def _most(there: Mapping[str, float]) -> Mapping[str, float]:
    """Return what the head says that the cluster may grow to, at least what is there; empty where it does not grow."""
    most = {name: max(there.get(said, 0.0), there.get(name, 0.0)) for name, said in MOST.items()}
    return most if any(said in there for said in MOST.values()) else {}


def size(
    cluster: Cluster,
    trials: int,
    *,
    workers: int,
    backend: str,
    max_concurrent: int | None,
    gpus_per_worker: str = "1",
    measured_bytes: Mapping[str, float] | None = None,
    cpus_per_worker: str = "1",
    on_one_node: bool = False,
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
        gpus_per_worker: a part of a GPU, "1" or "auto".
        measured_bytes: highest memory of finished trials, by "CPU" and "GPU"; without it a guess stands in.
        cpus_per_worker: a part of a CPU, or a whole number, which is that of its threads.
        on_one_node: the workers of a trial have to share a node (launcher.waiting.strategy).

    Raises:
        ConfigurationError: a trial needs more devices than the cluster, or a node of it, has.
    """
    use_gpu = max(cluster.gpus, cluster.most.get("GPU", 0)) >= 1
    asked, cpus = devices.asked(workers, backend, gpus_per_worker, cpus_per_worker)
    share = (asked or _measured_part((measured_bytes or {}).get("GPU"), cluster.refused)) if use_gpu else 1.0
    worker = devices.Worker(cpus, share if use_gpu else 0.0)
    there = devices.there(cluster.node_resources or (_whole(cluster),), worker, cluster.most)
    devices.check(
        there, worker, workers, driver_cpus=0.0 if cluster.has_driver_resource or backend == "tune" else DRIVER_CPUS
    )
    usable = devices.beside_each_other(there, worker, workers) if on_one_node else there.slots
    process = (measured_bytes or {}).get("CPU", 0.0) * _MARGIN or _GUESSED_BYTES
    need = room.Need(_HELPER_BYTES[backend], _GUESSED_BYTES if use_gpu else process, workers)
    allowed = max_concurrent if max_concurrent is not None else trials
    wanted = max(1, min(usable // workers, allowed, trials))
    machines = room.machines(there.nodes, DRIVER, there.by_node)
    held = room.trials(machines, need, wanted, to_come=there.to_come)
    return Sizing(workers, use_gpu, cpus, held, share, room.told(machines, need, held, wanted))


def for_trials(cluster: Cluster, asked: Iterable[Mapping[str, Mapping[str, Any]]]) -> Cluster:
    """Return what of a cluster trials may use: no GPU where they are told to leave it (`use_cpu`).

    Args:
        cluster: what there is.
        asked: the sections of the configuration of each trial.

    Raises:
        ConfigurationError: some are told so and others are not.
    """
    told = {bool(sections["Trainer Arguments"].get("use_cpu")) for sections in asked}
    if len(told) > 1:
        raise ConfigurationError(
            "use_cpu is True for some trials and False for others, and one launch has devices of one kind for all of them; "
            "give it for all or for none"
        )
    if True not in told:
        return cluster
    nodes = tuple({name: has for name, has in one.items() if name != "GPU"} for one in cluster.node_resources)
    most = {name: has for name, has in cluster.most.items() if name != "GPU"}
    return replace(cluster, gpus=0.0, node_resources=nodes, most=most)


def _whole(cluster: Cluster) -> Mapping[str, float]:
    """Take a cluster of which no nodes are told for one machine."""
    return {"CPU": cluster.cpus, "GPU": cluster.gpus, "memory": cluster.memory_bytes, DRIVER: 1.0}


def _measured_part(measured_bytes: float | None, refused: frozenset[str]) -> float:
    """Return the part of a GPU for one worker; a whole one where nothing was measured, or no GPU has come yet."""
    gpu_bytes = _gpu_bytes(refused) if measured_bytes else None
    return 1.0 if not measured_bytes or gpu_bytes is None else share_of(measured_bytes, gpu_bytes)


def share_of(measured_bytes: float, gpu_bytes: float) -> float:
    """Return the smallest 1/n of a GPU that holds a worker with a margin of a quarter, n at most 8.

    Args:
        measured_bytes: highest memory of a finished trial.
        gpu_bytes: memory of the smallest GPU.
    """
    return 1 / max(1, min(_MAX_TRIALS_PER_GPU, int(gpu_bytes / (measured_bytes * _MARGIN))))


def _gpu_bytes(refused: frozenset[str]) -> float | None:
    """Ask every node with a GPU how much memory its first one has; the smallest counts. None: there is no such node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def ask() -> float:
        import torch  # on the node, not here

        return float(torch.cuda.get_device_properties(0).total_memory)

    alive = [one for one in ray.nodes() if one["Alive"] and one["NodeID"] not in refused]
    nodes = [one["NodeID"] for one in alive if one["Resources"].get("GPU")]
    placed = ({"scheduling_strategy": NodeAffinitySchedulingStrategy(one, soft=False)} for one in nodes)
    return min(ray.get([ray.remote(num_gpus=1)(ask).options(**where).remote() for where in placed]), default=None)
