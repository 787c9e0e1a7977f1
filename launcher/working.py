"""What a worker of a trial does around the training function, which it looks up by name: the launch needs neither torch nor transformers."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher import courier, draining, preflight


@dataclass(frozen=True)
class Worker:
    """What Ray Train runs in each worker.

    Attributes:
        train_fn: "module:function".
    """

    train_fn: str

    def __call__(self, config: dict[str, Any]) -> str:
        """Work at a job."""
        from ray import train

        return work(config, self.train_fn, rank=train.get_context().get_world_rank())


def work(job: Mapping[str, Any], train_fn: str, *session: Any, rank: int = 0) -> str:
    """Train on a node that is fit, with what the trial needs at hand there.

    Args:
        job: as `courier.named` made it.
        train_fn: "module:function".
        session: takes the reports; without it Ray Train does.
        rank: of the worker.

    Returns:
        what the training function says of the end.
    """
    os.environ["OMP_NUM_THREADS"] = str(job["threads"])
    preflight.admit(job, works=True)
    with courier.at_work(job, rank) as near, draining.watched(near):
        return pkgutil.resolve_name(train_fn)(near, *session)
