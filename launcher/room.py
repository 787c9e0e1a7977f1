"""How many trials the memory of a cluster's machines holds: helpers on those that carry the drivers, workers elsewhere."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One node.

    Attributes:
        memory_bytes: that Ray counts there: what was free when Ray started, less its object store (30 %).
        drives: drivers of trials, and with them the helpers of Ray Train, run there.
        slots: workers that its devices hold.
    """

    memory_bytes: float
    drives: bool
    slots: int


@dataclass(frozen=True)
class Need:
    """What one trial wants.

    Attributes:
        helpers_bytes: beside its driver, the processes of Ray Train; 0: it has none.
        worker_bytes: in the machine's memory, not in that of a GPU.
        workers: of one trial.
    """

    helpers_bytes: float
    worker_bytes: float
    workers: int


def machines(
    resources: Sequence[Mapping[str, float]], driver: str, slots: Sequence[int]
) -> tuple[Machine, ...]:  # fmt: skip
    """Describe the nodes of a cluster.

    Args:
        resources: of each alive node, as Ray tells them.
        driver: the resource that drivers are placed by; where no node has it they may be anywhere.
        slots: workers that the devices of each node hold.
    """
    anywhere = not any(node.get(driver) for node in resources)
    return tuple(
        Machine(node.get("memory", 0.0), anywhere or bool(node.get(driver)), held)
        for node, held in zip(resources, slots, strict=True)
    )


def trials(there: Sequence[Machine], need: Need, most: int, to_come: int = 0) -> int:
    """Return how many trials at a time the machines hold, at least 1: with one trial it is tried all the same.

    Helpers spread over the machines that drive as their memory does; what is left there is for workers.

    Args:
        there: the machines; one whose memory Ray does not count (0) is taken to hold what its devices do.
        need: of one trial.
        most: no more than so many.
        to_come: workers for which machines are still to come; they are taken to fit.
    """
    return max(1, bisect_left(range(1, most + 1), True, key=lambda count: not _hold(there, need, count, to_come)))


def told(there: Sequence[Machine], need: Need, held: int, wanted: int) -> str:
    """Say why fewer trials run at a time than there are devices for; "": they do not.

    Args:
        there: the machines.
        need: of one trial.
        held: what `trials` returned.
        wanted: what it was given as the most.
    """
    if held >= wanted:
        return ""
    least = f"memory holds {held} of {wanted} trials at a time"
    drive = sum(one.memory_bytes for one in there if one.drives)
    worker = f"a worker takes {need.worker_bytes / 1e9:.1f} GB"
    helpers = (
        f"Ray Train takes {need.helpers_bytes / 1e9:.1f} GB for each where the drivers run, which have {drive / 1e9:.1f} GB; "
        "--backend tune takes nothing there, for trials of one worker"
    )
    if not need.helpers_bytes or (
        not any(one.drives and one.slots for one in there) and not _is_full(drive, need, held)
    ):
        return f"{least}: {worker}"
    return f"{least}: {helpers}" if _is_full(drive, need, held) else f"{least}: {worker}, and {helpers}"


def _is_full(drive_bytes: float, need: Need, held: int) -> bool:
    """Tell whether helpers of one trial more would not fit, with no worker beside them."""
    return (held + 1) * need.helpers_bytes > drive_bytes


def _hold(there: Sequence[Machine], need: Need, count: int, to_come: int) -> bool:
    drive = sum(one.memory_bytes for one in there if one.drives)
    taken = count * need.helpers_bytes / drive if drive else 0.0
    left = ((one, one.memory_bytes * (1 - taken * one.drives)) for one in there)
    slots = sum(min(one.slots, int(free / need.worker_bytes)) if one.memory_bytes else one.slots for one, free in left)
    return taken <= 1 and slots + to_come >= count * need.workers
