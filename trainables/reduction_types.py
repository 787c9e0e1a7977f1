"""What reductions see of an update, before it and after it, and what they remember between updates.

numpy only: plans and analyses read this module without torch. N utterances of an update, G groups of the training set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Update:
    """The utterances of one update, as far as they are known before the forward.

    Attributes:
        label_count_N: labels (characters) per utterance, U_i.
        frame_count_N: frames per utterance, T_i, without padding.
        group_N: place of each utterance's group in `groups`; None where no reduction asks for groups.
        groups: names of the groups of the training set.
        training_count_G: training utterances of each group, at least 1.
        chunk_N: number of the stock micro-batch each utterance would be in, counted over all workers: consecutive
            chunks of `per_device_train_batch_size` in the order of dealing. Only `stock_mean` reads it.

    Raises:
        ValueError: the fields do not fit each other.
    """

    label_count_N: np.ndarray
    frame_count_N: np.ndarray
    group_N: np.ndarray | None = None
    groups: tuple[str, ...] = ()
    training_count_G: np.ndarray | None = None
    chunk_N: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("frame_count_N", "group_N", "chunk_N"):
            values_N = getattr(self, name)
            if values_N is not None and len(values_N) != len(self):
                raise ValueError(f"{name} has {len(values_N)} entries for {len(self)} utterances; give one for each")
        counts_G = self.training_count_G
        if counts_G is not None and (len(counts_G) != len(self.groups) or np.any(np.asarray(counts_G) < 1)):
            raise ValueError(
                f"training_count_G is {np.asarray(counts_G).tolist()} for the groups {list(self.groups)}; "
                "give one count of at least 1 for each group of the training set"
            )
        if self.group_N is not None and np.any((self.group_N < 0) | (self.group_N >= len(self.groups))):
            raise ValueError(
                f"group_N holds {np.unique(self.group_N).tolist()}; 0 to {len(self.groups) - 1} are groups"
            )

    def __len__(self) -> int:
        return len(self.label_count_N)

    def taken(self, places: Sequence[int]) -> Update:
        """Return an update of some of the utterances."""
        chosen = list(places)
        parts = {
            name: None if values_N is None else values_N[chosen]
            for name, values_N in (("group_N", self.group_N), ("chunk_N", self.chunk_N))
        }
        return replace(
            self, label_count_N=self.label_count_N[chosen], frame_count_N=self.frame_count_N[chosen], **parts
        )

    def require_groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (group_N, training_count_G), both as arrays.

        Raises:
            ValueError: they were not given.
        """
        if self.group_N is None or self.training_count_G is None:
            raise ValueError("this reduction weighs groups; give the update group_N, groups and training_count_G")
        return np.asarray(self.group_N), np.asarray(self.training_count_G, dtype=float)

    def group_sum(self, values_N: np.ndarray) -> np.ndarray:
        """Add one value per utterance within each group; shape (G,)."""
        return np.bincount(self.require_groups()[0], weights=values_N, minlength=len(self.groups))


Weighting = tuple[np.ndarray, float]
"""(weight_N, Z): multiply each loss by its weight, add over all workers, divide once by Z."""


@dataclass(frozen=True)
class Observed:
    """What an update showed of each group, added up over all its micro-batches and workers. All of shape (G,).

    Attributes:
        utterances_G: utterances; 0 where the group was absent.
        loss_sum_G: sum of the losses in nats, before any weight.
        frame_sum_G: frames without padding.
        label_sum_G: labels.
        gradient_norm_G: norm of the gradient of the group's mean loss (before any weight), for reductions with
            `needs_gradient_norms`; anything where the group was absent.
    """

    utterances_G: np.ndarray
    loss_sum_G: np.ndarray
    frame_sum_G: np.ndarray
    label_sum_G: np.ndarray
    gradient_norm_G: np.ndarray | None = None

    @classmethod
    def of(cls, update: Update, loss_sum_G: np.ndarray, gradient_norm_G: np.ndarray | None = None) -> Observed:
        """Count what is known of the update; only the losses (and norms) had to be added up over workers."""
        return cls(
            utterances_G=update.group_sum(np.ones(len(update))),
            loss_sum_G=np.asarray(loss_sum_G, dtype=float),
            frame_sum_G=update.group_sum(update.frame_count_N),
            label_sum_G=update.group_sum(update.label_count_N),
            gradient_norm_G=None if gradient_norm_G is None else np.asarray(gradient_norm_G, dtype=float),
        )


@dataclass(frozen=True)
class State:
    """What a reduction remembers between updates; kept in checkpoints. Empty for those that remember nothing.

    Attributes:
        groups: names of the groups, in the order of the values.
        values: under each name one number per group.
    """

    groups: tuple[str, ...] = ()
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.values.items():
            if len(values) != len(self.groups):
                raise ValueError(f"state {name!r} has {len(values)} values for the groups {list(self.groups)}")

    def array(self, name: str) -> np.ndarray:
        """Return one row of values, shape (G,)."""
        return np.array(self.values[name], dtype=float)

    def replaced(self, **arrays: np.ndarray) -> State:
        """Return a state in which these rows are new."""
        rows = {name: tuple(np.asarray(array, dtype=float).tolist()) for name, array in arrays.items()}
        return State(self.groups, {**self.values, **rows})

    def as_dict(self) -> dict[str, Any]:
        """Return the state as JSON can hold it; `from_dict` reads it back bit for bit."""
        return {"groups": list(self.groups), "values": {name: list(row) for name, row in self.values.items()}}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> State:
        """Read what `as_dict` returned.

        Raises:
            ValueError: a row does not have one value per group.
        """
        return cls(tuple(saved["groups"]), {name: tuple(map(float, row)) for name, row in saved["values"].items()})
