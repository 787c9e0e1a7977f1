"""The one seam to the launcher: report metrics while a trial runs, learn that it should stop.

`ray.train` is imported here and nowhere else in this package; under `--backend tune` the launcher hands in its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Session(Protocol):
    """Where the training function meets what runs it."""

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Pass on metrics; every worker of the trial calls it at the same moment."""
        ...


class RayTrainSession:
    """Reports to the `TorchTrainer` that runs this worker."""

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Report through ray.train (rank 0's metrics are forwarded to Tune)."""
        import ray.train

        ray.train.report(dict(metrics))


class SilentSession:
    """Reports to nobody: for running the training function by itself."""

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Do nothing."""
