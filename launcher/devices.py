"""How many workers the CPUs and GPUs of a cluster's machines hold: what one worker gets is of one machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.config import ConfigurationError

_MOST_CPUS = 1024
_ROUNDING = 1e-6
"""Ray counts in ten thousandths of a CPU; 1 / (1 / 3) is not 3 in floating point."""


@dataclass(frozen=True)
class Worker:
    """What one worker asks Ray for.

    Attributes:
        cpus: whole ones, or a part of one.
        gpus: a part of one GPU, or all of it; 0: it trains on CPUs.
    """

    cpus: float
    gpus: float

    @property
    def device(self) -> str:
        """What it trains on."""
        return "GPU" if self.gpus else "CPU"

    @property
    def each(self) -> float:
        """How many of these it gets."""
        return self.gpus or self.cpus

    def slots(self, node: Mapping[str, float], *, any_cpus: bool = False) -> int:
        """Return how many of its kind a machine holds; Ray gives a part of a GPU from one GPU, never from two.

        Args:
            node: its resources.
            any_cpus: its CPUs are not known, and taken to do.
        """
        by_cpu = int(node.get("CPU", 0.0) / self.cpus + _ROUNDING)
        if not self.gpus:
            return by_cpu
        by_gpu = int(node.get("GPU", 0.0)) * int(1 / self.gpus + _ROUNDING)
        return by_gpu if any_cpus else min(by_cpu, by_gpu)


@dataclass(frozen=True)
class There:
    """What a cluster holds of a kind of workers.

    Attributes:
        nodes: resources of its machines.
        by_node: workers that each holds.
        to_come: workers on machines that a cluster that grows does not have yet.
        may_come: whether it grows at all.
    """

    nodes: Sequence[Mapping[str, float]]
    by_node: Sequence[int]
    to_come: int
    may_come: bool

    @property
    def slots(self) -> int:
        """All workers that it holds at its largest."""
        return sum(self.by_node) + self.to_come


def there(nodes: Sequence[Mapping[str, float]], worker: Worker, most: Mapping[str, float]) -> There:
    """Count the workers that the machines of a cluster hold.

    Args:
        nodes: resources of each alive machine, as Ray tells them.
        worker: what each gets.
        most: CPUs and GPUs of all machines that it may grow to; empty: it does not grow. What machines these will be
            nobody knows: they are taken to be of the kind that is wanted.
    """
    by_node = [worker.slots(node) for node in nodes]
    to_come = max(0, worker.slots(most, any_cpus=True) - sum(by_node))
    return There(nodes, by_node, to_come, bool(most))


def asked(workers: int, backend: str, gpus_per_worker: str, cpus_per_worker: str) -> tuple[float | None, float]:
    """Read what one worker is to get; what no machine could give is told before any is asked.

    Args:
        workers: of one trial.
        backend: "train" or "tune".
        gpus_per_worker: a part of a GPU, "1" or "auto".
        cpus_per_worker: a part of a CPU, or a whole number.

    Returns:
        the part of a GPU, None by what was measured; the CPUs.

    Raises:
        ConfigurationError: that cannot be.
    """
    if backend == "tune" and workers > 1:
        raise ConfigurationError(f"--workers {workers} needs --backend train; --backend tune runs one worker per trial")
    part = None if gpus_per_worker == "auto" else _number(gpus_per_worker)
    if part is not None and not 0 < part <= 1:
        raise ConfigurationError(
            f"--gpus-per-worker {gpus_per_worker}: give a part of a GPU as in 0.25, 1, or auto; a worker trains on one "
            "GPU, and --workers N shares each update of a trial among N"
        )
    cpus = _number(cpus_per_worker)
    if not (0 < cpus < 1 or cpus in range(1, _MOST_CPUS + 1)):
        raise ConfigurationError(
            f"--cpus-per-worker {cpus_per_worker}: give a whole number up to {_MOST_CPUS}, that of the threads of a "
            "worker, or a part of a CPU as in 0.5"
        )
    return part, cpus


def _number(given: str) -> float:
    try:
        return float(given)
    except ValueError:
        return 0.0


def check(there: There, worker: Worker, workers: int, *, driver_cpus: float) -> None:
    """Refuse a trial that would wait for ever.

    Args:
        there: what the cluster holds.
        worker: what each of its workers gets.
        workers: of one trial.
        driver_cpus: what the driver of the trial takes of the CPUs of one machine.

    Raises:
        ConfigurationError: it needs more than there is, or is to come.
    """
    have = there.slots
    if have and not there.to_come and driver_cpus and workers >= have:
        have = min(_beside_the_driver(there, worker, driver_cpus), default=have)
    if workers <= have:
        return
    if not have:
        wanted = f"{worker.gpus:g} GPU and {worker.cpus:g} CPU" if worker.gpus else f"{worker.cpus:g} CPU"
        largest = max((node.get("CPU", 0.0) for node in there.nodes), default=0.0)
        advice = (
            f"give at most --cpus-per-worker {largest:g}, or machines with more" if largest >= 1 else "add machines"
        )
        raise ConfigurationError(
            f"--cpus-per-worker {worker.cpus:g}: no machine has room for a worker of {wanted}, the largest has "
            f"{largest:g} CPU; {advice}"
        )
    beside = " beside the process that drives the trial" if have < there.slots else ""
    if worker.gpus not in (0, 1) or worker.cpus != 1:
        each = f"--cpus-per-worker {worker.cpus:g}" + (f" and --gpus-per-worker {worker.gpus:g}" if worker.gpus else "")
        raise ConfigurationError(
            f"--workers {workers} with {each}: the nodes hold {have} of such workers{beside}, each on one node and "
            f"{'its part of a GPU on one GPU' if worker.gpus else 'with all its CPUs'}; use --workers {have}"
        )
    total = sum(node.get(worker.device, 0.0) for node in there.nodes)
    raise ConfigurationError(
        f"--workers {workers} needs {workers * worker.each:g} {worker.device}s for one trial{beside}, the cluster has "
        f"{max(total, have * worker.each):g}; use --workers {have}"
    )


def beside_each_other(there: There, worker: Worker, workers: int) -> int:
    """Return how many workers there is room for when those of a trial share a node; machines that are to come are taken to fit.

    Raises:
        ConfigurationError: no node has devices for one trial, and none is to come.
    """
    if max(there.by_node) < workers and not there.to_come:
        raise ConfigurationError(
            f"--workers {workers} with --out on another file system needs {workers * worker.each:g} {worker.device}s on one node, "
            f"the largest has {max(node.get(worker.device, 0) for node in there.nodes):g}; use --workers {max(1, *there.by_node)}, "
            "or an --out that all nodes share"
        )
    return sum(slot // workers * workers for slot in there.by_node) + there.to_come


def _beside_the_driver(there: There, worker: Worker, driver_cpus: float) -> Iterator[int]:
    """Say how many workers there is room for when Ray puts the driver on the one or the other node."""
    for node, held in zip(there.nodes, there.by_node, strict=True):
        if (cpus := node.get("CPU", 0.0)) >= driver_cpus:
            yield sum(there.by_node) - held + worker.slots({**node, "CPU": cpus - driver_cpus})
