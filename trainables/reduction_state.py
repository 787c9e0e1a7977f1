"""Reductions that remember: their weights follow from what earlier updates showed of each group.

Each is a small frozen dataclass of its parameters with three pure methods: `initial`, `weigh` (before an update) and
`step` (after it). State is never changed in place. Add one by writing it and putting it into `STATEFUL`.

Every worker computes the same step from the same `Observed`. A group that an update lacks keeps what is remembered of
it, and so does a group whose observation is not finite: such an update changes no weight of the model either.

N utterances of an update, G groups of the training set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from trainables.reduction_parameters import Fraction, Positive
from trainables.reduction_types import Observed, State, Update, Weighting

MINIMUM_SHARE = 1e-10
"""Smallest weight of a group under DRO, so that none is lost for good (the authors of CTC-DRO add as much)."""


class Stateful(Protocol):
    """What a reduction that remembers can do."""

    needs_gradient_norms: ClassVar[bool]
    weighs_by_mates: ClassVar[bool]

    def initial(self, groups: Sequence[str]) -> State:
        """Return what is remembered before the first update."""
        ...

    def weigh(self, update: Update, state: State) -> Weighting:
        """Weigh an update."""
        ...

    def step(self, state: State, observed: Observed) -> State:
        """Return what is remembered after an update."""
        ...


@dataclass(frozen=True, kw_only=True)
class GroupDRO:
    """Minimise the worst group: L = sum_g q_g L_g, L_g the mean loss of g in the update: w = q_g / n_g, Z = 1.

    After each update q_g <- q_g exp(eta L_g), then q is divided by its sum; it starts uniform. Groups of high loss
    gain, and as L_g is in nats per utterance, whatever its length, long sentences and noisy transcripts gain over single
    words whether they need it or not (`ctc_dro` repairs that).

    Differs from the paper: q steps after the update, not before it, because weights are fixed before the forward. And
    groups come as they are dealt, not equally often, so a group that the update lacks keeps its q, and the others share
    what they had together; with the division over all groups, the rare would lose for being rare. As in the paper, a
    group that the update lacks adds nothing to L: over many updates a rare group has less than its share q_g, by the part
    of the updates that lack it, unless updates are large enough to hold every group.

    Reference: Sagawa et al. 2020, https://arxiv.org/abs/1911.08731, algorithm 1; eta = 0.01 as in its code.
    """

    needs_gradient_norms: ClassVar[bool] = False
    weighs_by_mates: ClassVar[bool] = True
    eta: Positive = 0.01

    def initial(self, groups: Sequence[str]) -> State:
        """Give every group the same share."""
        return _uniform(groups)

    def weigh(self, update: Update, state: State) -> Weighting:
        """Return q_g / n_g for each utterance, n_g counted in the update."""
        group_N, _ = update.require_groups()
        count_G = update.group_sum(np.ones(len(update)))
        return (state.array("q") / np.maximum(count_G, 1))[group_N], 1.0

    def step(self, state: State, observed: Observed) -> State:
        """Move share among the groups that the update held to those of high loss."""
        q_G, seen_G = state.array("q"), _seen(observed)
        if not seen_G.any():
            return state
        mean_loss_G = observed.loss_sum_G[seen_G] / observed.utterances_G[seen_G]
        q_G[seen_G] = q_G[seen_G].sum() * _multiplied(q_G[seen_G], self.eta * mean_loss_G)
        return state.replaced(q=q_G)


@dataclass(frozen=True, kw_only=True)
class CtcDRO:
    """Minimise the worst group, fair to length and smoothed: w = G q_g, Z = N; `utterance_mean` while q is uniform.

    q_g <- q_g exp(eta L_g / (q_g + alpha)), then q is divided by its sum; it starts uniform. L_g is the summed loss of
    equally much audio of every group. Groups of high loss per second gain; the larger their share already is, the
    slower, so that a group whose loss cannot be reduced does not take all.

    The paper draws batches of one group whose durations add up to a fixed total. Once every group had a batch, q steps
    by the mean over each group's batches of their summed losses. Here an update mixes groups: losses and frames of each
    group are added up over updates until every group has shown `batch_frames` frames. Then L_g is its loss per frame
    times `batch_frames`: the same mean if all batches had exactly that length. All of q steps; counting starts anew.

    What differs from the paper:
    1. q steps after the update that completes the audio, not before its backward: weights are fixed before the forward.
    2. All audio of a group since the last step counts, cut at no batch boundary.
    3. The loss is divided by the utterances of the update, so that the size of the update does not set the step.

    Reference: Bartelds et al. 2025, https://arxiv.org/abs/2502.01777; compared step by step with the loss that the authors
    published (https://github.com/Bartelds/ctc-dro); eta and alpha as in the example there.
    `batch_frames` is 50 s of 20 ms frames. eta multiplies the loss of that much audio: change them inversely.
    """

    needs_gradient_norms: ClassVar[bool] = False
    weighs_by_mates: ClassVar[bool] = False
    eta: Positive = 1e-4
    alpha: Positive = 0.1
    batch_frames: Positive = 2500.0

    def initial(self, groups: Sequence[str]) -> State:
        """Give every group the same share, and no audio seen."""
        nothing_G = np.zeros(len(groups))
        return _uniform(groups).replaced(loss_sum=nothing_G, frame_sum=nothing_G)

    def weigh(self, update: Update, state: State) -> Weighting:
        """Return G q_g for each utterance."""
        group_N, _ = update.require_groups()
        return (len(state.groups) * state.array("q"))[group_N], float(len(update))

    def step(self, state: State, observed: Observed) -> State:
        """Add up losses and frames; once every group has shown enough audio, step all shares."""
        q_G, seen_G = state.array("q"), _seen(observed)
        loss_sum_G = state.array("loss_sum") + np.where(seen_G, observed.loss_sum_G, 0.0)
        frame_sum_G = state.array("frame_sum") + np.where(seen_G, observed.frame_sum_G, 0.0)
        if np.any(frame_sum_G < self.batch_frames):
            return state.replaced(loss_sum=loss_sum_G, frame_sum=frame_sum_G)
        batch_loss_G = loss_sum_G / frame_sum_G * self.batch_frames
        nothing_G = np.zeros_like(q_G)
        q_G = _multiplied(q_G, self.eta * batch_loss_G / (q_G + self.alpha))
        return state.replaced(q=q_G, loss_sum=nothing_G, frame_sum=nothing_G)


# Norms beyond what float64 can add up; and the least that a group's norm counts beside the largest.
_LARGEST_NORM, _SMALLEST_SHARE = 1e300, 1e-10


@dataclass(frozen=True, kw_only=True)
class GradientBalanced:
    """Let an utterance of each group move the weights equally far: w = a_g, a_g in proportion to 1 / e_g, Z = N.

    e_g is the moving average over updates (of the given decay, corrected for its start) of the norm of the gradient of
    the group's mean loss; a is scaled so that its mean over the training set is 1. Groups of small gradients gain:
    those learnt already, and, as gradients of utterances partly cancel, those with many utterances in an update.
    Before any observation a = 1; a group not seen yet counts as the average of those that were.

    Reference: the loss balancer of Défossez et al. 2022, https://arxiv.org/abs/2210.13438 (decay 0.999), applied to
    groups instead of loss terms; the aim is that of Chen et al. 2018 (GradNorm), https://arxiv.org/abs/1711.02257.
    """

    needs_gradient_norms: ClassVar[bool] = True
    weighs_by_mates: ClassVar[bool] = False
    decay: Fraction = 0.999

    def initial(self, groups: Sequence[str]) -> State:
        """Know no gradient of any group."""
        nothing_G = np.zeros(len(groups))
        return State(tuple(groups)).replaced(norm_sum=nothing_G, norm_weight=nothing_G)

    def weigh(self, update: Update, state: State) -> Weighting:
        """Return a_g for each utterance."""
        group_N, count_G = update.require_groups()
        norm_sum_G, norm_weight_G = state.array("norm_sum"), state.array("norm_weight")
        known_G = norm_weight_G > 0
        if not known_G.any():
            return np.ones(len(update)), float(len(update))
        average_G = np.minimum(norm_sum_G / np.where(known_G, norm_weight_G, 1.0), _LARGEST_NORM)
        average_G = np.where(known_G, average_G, average_G[known_G].mean())
        if average_G.max() <= 0:
            return np.ones(len(update)), float(len(update))
        # The gradient of a group that is learnt may vanish; no group may take all the weight for it.
        inverse_G = 1.0 / np.maximum(average_G / average_G.max(), _SMALLEST_SHARE)
        balance_G = inverse_G / (count_G / count_G.sum() @ inverse_G)
        return balance_G[group_N], float(len(update))

    def step(self, state: State, observed: Observed) -> State:
        """Move the average of each group that the update held; a norm of 0 says nothing of a direction.

        Raises:
            ValueError: the norms were not observed.
        """
        norm_G = observed.gradient_norm_G
        if norm_G is None:
            raise ValueError("gradient_balanced steps on gradient norms; give Observed its gradient_norm_G")
        seen_G = _seen(observed) & np.isfinite(norm_G) & (norm_G > 0)
        norm_sum_G, norm_weight_G = state.array("norm_sum"), state.array("norm_weight")
        kept, new = self.decay, 1 - self.decay
        return state.replaced(
            norm_sum=np.where(seen_G, kept * norm_sum_G + new * np.where(seen_G, norm_G, 0.0), norm_sum_G),
            norm_weight=np.where(seen_G, kept * norm_weight_G + new, norm_weight_G),
        )


STATEFUL: Mapping[str, type[Stateful]] = {
    "group_dro": GroupDRO,
    "ctc_dro": CtcDRO,
    "gradient_balanced": GradientBalanced,
}


def _uniform(groups: Sequence[str]) -> State:
    return State(tuple(groups)).replaced(q=np.full(len(groups), 1.0 / len(groups)))


def _seen(observed: Observed) -> np.ndarray:
    return (observed.utterances_G > 0) & np.isfinite(observed.loss_sum_G)


def _multiplied(q_G: np.ndarray, exponent_G: np.ndarray) -> np.ndarray:
    """Return q exp(exponent), divided by its sum; in logarithms, as exp of some hundred nats overflows."""
    log_G = np.log(q_G) + exponent_G
    share_G = np.exp(log_G - log_G.max())
    share_G = share_G / share_G.sum() + MINIMUM_SHARE
    return share_G / share_G.sum()
