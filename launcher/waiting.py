"""A trial waits for its machines before Ray Train does.

Those of a cluster that grows may take minutes, or not come at all; those of one that others use too may be taken. Ray
Train waits as well, but hears of no stop meanwhile, and takes all of its helpers along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from launcher import preflight
from launcher.cluster import Sizing

WAITING, RUNNING = "WAITING", "RUNNING"
_POLL_SECONDS = 2.0


def strategy(job: Mapping[str, Any]) -> str:
    """Say how workers of a trial are placed: those of a study on another file system share a folder of their node."""
    return "STRICT_PACK" if job.get("uri") else "PACK"


def has_room(
    job: Mapping[str, Any], sizing: Sizing, report: Callable[[str], None], is_stopped: Callable[[], bool]
) -> bool:
    """Wait until a cluster has room for a trial; its demand makes the machines of one that grows come.

    Args:
        job: of the trial.
        sizing: what its workers get.
        report: is told WAITING when it takes longer, and RUNNING after that.
        is_stopped: whether the study is to stop.

    Returns:
        False: it is to stop.
    """
    if not job.get("waits"):  # Ray was started for this study alone, and has room for it
        return True
    from ray.util.placement_group import placement_group, remove_placement_group

    labels = preflight.selector(job["refused"])
    only: dict[str, Any] = {"bundle_label_selector": [labels] * sizing.workers} if labels else {}
    group = placement_group([sizing.device] * sizing.workers, strategy=strategy(job), **only)
    told = False
    try:
        while not group.wait(_POLL_SECONDS):
            if is_stopped():
                return False
            if not told:
                report(WAITING)
                told = True
        if told:
            report(RUNNING)
        return True
    finally:
        remove_placement_group(group)  # Ray Train makes its own; the machines stay for their idle timeout
