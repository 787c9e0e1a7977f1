"""Reductions that look at the loss: they scale each one by a factor of itself, taken as a constant.

Each is one pure function `(losses, labels) -> factors` of any part of an update; the weight is that of `utterance_mean`
(w = 1, Z = N). Add one by writing it and putting it into `BY_LOSS`. l is a loss in nats, U its labels, at least 1.

N utterances of any part of an update.
"""

from __future__ import annotations

import numpy as np

from trainables.reduction_parameters import NonNegative, Positive


def capped(loss_N: np.ndarray, label_count_N: np.ndarray, *, limit: Positive) -> np.ndarray:
    """Cap each loss at so many nats per label: factor = min(1, limit U / l), Z = N; L is the mean of min(l, limit U).

    Wrongly transcribed and unintelligible recordings lose; everything below the cap gains. The factor is a constant:
    the gradient of min itself is 0 above the cap, and early in training all losses are above it, so that nothing
    would be learnt. Taken as a constant, an utterance above the cap still pulls, as hard as one at it.

    Reference: the weight in Huber's M-estimator, 1964, https://doi.org/10.1214/aoms/1177703732.
    """
    limit_N = limit * np.maximum(label_count_N, 1)
    return np.where(loss_N > limit_N, limit_N / np.maximum(loss_N, limit_N), 1.0)


def focal(loss_N: np.ndarray, label_count_N: np.ndarray, *, gamma: NonNegative = 2.0) -> np.ndarray:
    """Turn from what is learnt to what is not: factor = (1 - exp(-l / U))^gamma, Z = N.

    exp(-l / U) is the geometric mean of the probability of a label. Hard utterances gain; gamma = 0 is utterance_mean.
    The factor is taken as a constant, which leaves out the second term of the original gradient.

    Reference: Lin et al. 2017, https://arxiv.org/abs/1708.02002 (gamma 2), on utterances instead of classes.
    """
    return (-np.expm1(-loss_N / np.maximum(label_count_N, 1))) ** gamma


BY_LOSS = (capped, focal)
