"""What a trial counts while it trains: over all its updates, and of the last one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class Totals:
    """What is added up over the updates of a trial; kept in its checkpoints."""

    updates: int = 0
    clipped: int = 0
    non_finite: int = 0
    grad_norm: float = 0.0
    audio_seconds: float = 0.0
    padded_seconds: float = 0.0
    training_seconds: float = 0.0
    recent_non_finite: int = 0
    zero_infinity_hits: int = 0
    update_ratio: float = 0.0
    measured_ratios: int = 0
    out_of_memory: int = 0
    limit_seconds: float | None = None

    def summary(self) -> dict[str, float | int | None]:
        """Return means over the updates so far, as they stand in the results table."""
        finite = self.updates - self.non_finite
        return {
            "updates": self.updates,
            "clip_fraction": self.clipped / self.updates if self.updates else None,
            "grad_norm": self.grad_norm / finite if finite else None,
            "padding_fraction": 1 - self.audio_seconds / self.padded_seconds if self.padded_seconds else None,
            "audio_seconds_per_second": self.audio_seconds / self.training_seconds if self.training_seconds else None,
            "non_finite_updates": self.non_finite,
            "zero_infinity_hits": self.zero_infinity_hits,
            "out_of_memory": self.out_of_memory,
            "update_ratio": self.update_ratio / self.measured_ratios if self.measured_ratios else None,
        }


@dataclass
class Step:
    """What the last update showed, for its row in the history."""

    values: dict[str, float] = field(default_factory=dict)
    weights_before: list[torch.Tensor] | None = None
    started: float = 0.0
    zero_infinity_hits: int = 0
    class_loss: float = 0.0
    classes_right: int = 0
    audio_seconds: float = 0.0
    padded_seconds: float = 0.0
