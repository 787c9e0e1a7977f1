"""From the sums of classes to the rows of shares.parquet, cosines.parquet and exact.parquet.

R reductions, D directions, K classes of a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.shares import ClassSums, Weights

MAX_PAIRED_CLASSES = 64
"""Cosines between pairs are listed for columns of at most so many classes: pairs grow with the square."""

_KEY = (("reduction", pa.string()), ("column", pa.string()), ("class", pa.string()))
_SHARES = (
    "utterance_share", "label_share", "second_share", "value", "loss_share", "gradient_norm_share", "gradient_share",
    "cosine_to_rest", "gradient_left", "mean_loss",
)  # fmt: skip


def shares_schema() -> pa.Schema:
    """Columns of shares.parquet: one row per reduction, column and class; see `share_rows`."""
    whole = [(name, pa.int64()) for name in ("update_size", "utterances")]
    return pa.schema([*_KEY, *whole, *((name, pa.float64()) for name in _SHARES)])


def cosines_schema() -> pa.Schema:
    """Columns of cosines.parquet: one row per reduction and pair of classes of a column."""
    return pa.schema([*_KEY, ("other", pa.string()), ("cosine", pa.float64())])


@dataclass(frozen=True)
class GradientShares:
    """What the inner products of the classes' gradients say; NaN where there is nothing to divide by.

    Attributes:
        norm_K: |g_k| over the sum of all |g_k|; adds up to 1.
        signed_K: <g_k, g> / |g|^2 with g the sum of all g_k; adds up to 1, and is negative for a class that is
            overruled by the others.
        to_rest_K: cosine of g_k with g - g_k.
        pair_KK: cosine of each class with each other.
        left: |g| over the sum of all |g_k|: 1 where all pull the same way, 0 where they cancel; then `signed_K` divides
            by next to nothing.
    """

    norm_K: np.ndarray
    signed_K: np.ndarray
    to_rest_K: np.ndarray
    pair_KK: np.ndarray
    left: float

    @classmethod
    def of(cls, gram_KK: np.ndarray) -> GradientShares:
        """Read the shares from a Gram matrix."""
        square_K = np.maximum(np.diagonal(gram_KK), 0.0)
        with_all_K, whole = gram_KK.sum(axis=1), gram_KK.sum()
        rest_K = whole - 2 * with_all_K + square_K
        # What is left of a single class without itself is rounding, not a direction.
        rest_K = np.where(rest_K > 1e-20 * np.abs(gram_KK).sum(), rest_K, np.nan)
        norm_K = np.sqrt(square_K)
        return cls(
            norm_K=_over(norm_K, norm_K.sum()),
            signed_K=_over(with_all_K, whole),
            to_rest_K=_over(with_all_K - square_K, norm_K * np.sqrt(rest_K)),
            pair_KK=_over(gram_KK, np.outer(norm_K, norm_K)),
            left=float(_over(np.sqrt(max(whole, 0.0)), norm_K.sum())),
        )


def gradient_shares(sums: ClassSums) -> list[list[GradientShares]]:
    """Return the shares of each column along each direction."""
    return [[GradientShares.of(gram_KK) for gram_KK in sums.gram_DKK(place)] for place in range(len(sums.classes))]


def share_rows(
    weights: Weights, sums: ClassSums, gradients: Sequence[Sequence[GradientShares]]
) -> list[dict[str, Any]]:
    """Make the rows of shares.parquet.

    Args:
        weights: of the audited utterances.
        sums: of the same.
        gradients: from `gradient_shares`.

    Returns:
        for each reduction, column and class: `update_size`, see `Weights`; `utterances` whose loss is finite, their share of the utterances, labels
        and seconds; `value`, the reduction of the whole audited set; `loss_share`, the class's part of that value; the
        shares of `GradientShares`; `mean_loss` in nats per utterance. None where there is nothing to divide by.
    """
    rows = []
    for place, one in enumerate(sums.classes):
        plain_K4 = sums.plain_K[place]
        share_K4 = _over(plain_K4, plain_K4.sum(axis=0))
        mean_loss_K = _over(plain_K4[:, 0], plain_K4[:, 1])
        loss_KD = sums.weighted_loss_KD[place]
        for reduction, direction, value in zip(weights.reductions, weights.direction_R, sums.value_R):
            shares, loss_K = gradients[place][direction], loss_KD[:, direction]
            loss_share_K = _over(loss_K, loss_K.sum())
            for code, name in enumerate(one.names):
                numbers = (
                    *share_K4[code, 1:], value, loss_share_K[code], shares.norm_K[code], shares.signed_K[code],
                    shares.to_rest_K[code], shares.left, mean_loss_K[code],
                )  # fmt: skip
                key = {"reduction": str(reduction), "column": one.column, "class": name}
                counted = {"update_size": weights.update_size, "utterances": int(plain_K4[code, 1])}
                rows.append(key | counted | dict(zip(_SHARES, map(finite, numbers))))
    return rows


def cosine_rows(
    weights: Weights, sums: ClassSums, gradients: Sequence[Sequence[GradientShares]]
) -> list[dict[str, Any]]:
    """Make the rows of cosines.parquet: how far two classes pull the same way under each reduction, in [-1, 1]."""
    rows = []
    for one, by_direction in zip(sums.classes, gradients):
        if len(one.names) > MAX_PAIRED_CLASSES:
            continue
        for reduction, direction in zip(weights.reductions, weights.direction_R):
            for first, name in enumerate(one.names):
                for second in range(first + 1, len(one.names)):
                    key = {"reduction": str(reduction), "column": one.column, "class": name}
                    cosine = finite(by_direction[direction].pair_KK[first, second])
                    rows.append(key | {"other": one.names[second], "cosine": cosine})
    return rows


def finite(value: float) -> float | None:
    """Return a plain number, or None for what is none."""
    return float(value) if np.isfinite(value) else None


def _over(numerator: np.ndarray, denominator: Any) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(denominator) != 0, numerator / denominator, np.nan)
