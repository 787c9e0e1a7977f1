"""How well the gradient at the output layer stands for the gradient at all trained weights, on a few utterances.

All shares follow from the inner products of the utterances' gradients. Whole gradients are large, so as many as fit into
a bound are held at a time, and those of the utterances behind them are computed anew for each such block.

N utterances, K classes of a column, P trained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy import stats
from torch import nn

from trainables import distributed
from trainables.gradients import output_layers
from trainables.share_tables import GradientShares, finite
from trainables.shares import Classes, Weights

_HELD_BYTES = 2 * 2**30
_SLICE = 2**18
_KINDS = ("cheap", "exact")
_MEASURES = ("gradient_norm_share", "gradient_share")
_AGREEMENT = ("norm_pearson", "norm_spearman", "cosine", "cosines_pearson", "largest_difference")


def exact_schema() -> pa.Schema:
    """Columns of exact.parquet: one row per reduction, column and class; see `exact_rows` and `agreement`."""
    text = [(name, pa.string()) for name in ("reduction", "column", "class")]
    numbers = [*(f"{measure}_{kind}" for measure in _MEASURES for kind in _KINDS), *_AGREEMENT]
    return pa.schema([*text, ("utterances", pa.int64()), *((name, pa.float64()) for name in numbers)])


@dataclass(frozen=True)
class Grams:
    """Losses and inner products of the utterances whose loss is finite.

    Attributes:
        places: which of the given utterances these are.
        loss_N: in nats.
        cheap_NN: inner products of their gradients at the output layer.
        exact_NN: inner products of their gradients at all trained weights.
    """

    places: np.ndarray
    loss_N: np.ndarray
    cheap_NN: np.ndarray
    exact_NN: np.ndarray


def measure(
    model: nn.Module, loss_of: Callable[[int], torch.Tensor], count: int, held_bytes: int = _HELD_BYTES
) -> Grams:
    """Compute the inner products of the gradients of `count` utterances, shared by the workers.

    Args:
        model: in eval mode; its `.grad` stay as they are.
        loss_of: the loss of one utterance, a scalar with a graph.
        count: number of utterances.
        held_bytes: memory for gradients.
    """
    head = [weight for layer in output_layers(model) for weight in layer.parameters() if weight.requires_grad]
    of_head = {id(weight) for weight in head}
    body = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in of_head]
    trained, head_size = [*head, *body], sum(weight.numel() for weight in head)
    held = max(1, min(count, held_bytes // (4 * sum(weight.numel() for weight in trained))))
    loss_N, gram_2NN = np.zeros(count), np.zeros((2, count, count))
    device = trained[0].device
    for first in range(distributed.rank() * held, count, distributed.world_size() * held):
        block: list[torch.Tensor] = []
        for place in range(first, count):
            loss, gradient_P = _gradient(loss_of(place), trained)
            if first == 0:  # the one block behind which every utterance comes
                loss_N[place] = loss
            if len(block) < held:
                block.append(gradient_P)
            for other, other_P in enumerate(block, start=first):
                products = _inner_products(gradient_P, other_P, head_size)
                gram_2NN[:, place, other] = gram_2NN[:, other, place] = products
    total = distributed.add([*loss_N.tolist(), *gram_2NN.ravel().tolist()], device)
    loss_N, gram_2NN = np.array(total[:count]), np.array(total[count:]).reshape(2, count, count)
    places = np.flatnonzero(np.isfinite(loss_N))
    return Grams(places, loss_N[places], *gram_2NN[:, places[:, None], places])


def exact_rows(
    grams: Grams, weights: Weights, classes: Sequence[Classes], label_count_N: np.ndarray
) -> list[dict[str, Any]]:
    """Make the rows of exact.parquet, with the columns of `agreement` on each.

    Args:
        grams: of the sample.
        weights: of the sample.
        classes: of the sample.
        label_count_N: labels of the sample.
    """
    coefficient_DN = weights.coefficients(grams.places.tolist(), grams.loss_N, label_count_N[grams.places])
    rows = []
    for one in classes:
        member_KN = (one.code_N[grams.places] == np.arange(len(one.names))[:, None]).astype(float)
        for reduction, direction in zip(weights.reductions, weights.direction_R):
            weighted_KN = member_KN * coefficient_DN[direction]
            by_kind = [
                GradientShares.of(weighted_KN @ gram @ weighted_KN.T) for gram in (grams.cheap_NN, grams.exact_NN)
            ]
            for code in np.flatnonzero(member_KN.any(axis=1)):
                norm = {f"gradient_norm_share_{kind}": finite(s.norm_K[code]) for kind, s in zip(_KINDS, by_kind)}
                signed = {f"gradient_share_{kind}": finite(s.signed_K[code]) for kind, s in zip(_KINDS, by_kind)}
                key = {"reduction": str(reduction), "column": one.column, "class": one.names[code]}
                rows.append(key | {"utterances": int(member_KN[code].sum())} | norm | signed)
    return [row | agreement(grams, rows) for row in rows]


def agreement(grams: Grams, rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Say in numbers how well the cheap figure stands for the exact one.

    Returns:
        norm_pearson and norm_spearman: correlation over utterances of the two norms; cosine: mean over utterances of the
        cosine between the gradient at the output layer (0 elsewhere) and the whole one, which is the part of its norm;
        cosines_pearson: correlation over pairs of utterances of their two cosines; largest_difference: largest
        absolute difference of a share between the two. None where too few utterances tell.
    """
    cheap_N, exact_N = (np.sqrt(np.diagonal(gram)) for gram in (grams.cheap_NN, grams.exact_NN))
    pairs = np.triu_indices(len(cheap_N), k=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = [
            (gram / np.outer(norm_N, norm_N))[pairs]
            for gram, norm_N in ((grams.cheap_NN, cheap_N), (grams.exact_NN, exact_N))
        ]
        cosine = finite(float(np.mean(cheap_N / exact_N))) if len(cheap_N) else None
    differences = [
        abs(row[f"{measure}_cheap"] - row[f"{measure}_exact"])
        for row in rows
        for measure in _MEASURES
        if row[f"{measure}_cheap"] is not None and row[f"{measure}_exact"] is not None
    ]
    numbers = (
        _correlation(stats.pearsonr, cheap_N, exact_N), _correlation(stats.spearmanr, cheap_N, exact_N), cosine,
        _correlation(stats.pearsonr, *cosines), max(differences, default=None),
    )  # fmt: skip
    return dict(zip(_AGREEMENT, numbers))


def _gradient(loss: torch.Tensor, trained: Sequence[torch.Tensor]) -> tuple[float, torch.Tensor]:
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    parts = [torch.zeros_like(weight) if one is None else one for one, weight in zip(found, trained)]
    return float(loss.detach()), torch.cat([part.flatten().float() for part in parts])


def _inner_products(one_P: torch.Tensor, other_P: torch.Tensor, head_size: int) -> tuple[float, float]:
    """Return the inner product over the first `head_size` numbers and over all: float32 in slices, then float64."""
    sums = []
    for start, stop in ((0, head_size), (head_size, len(one_P))):
        slices = [
            one_P[at : min(at + _SLICE, stop)] @ other_P[at : min(at + _SLICE, stop)]
            for at in range(start, stop, _SLICE)
        ]
        sums.append(sum(torch.stack(slices).cpu().double().tolist()) if slices else 0.0)
    return sums[0], sums[0] + sums[1]


def _correlation(measure: Callable[..., Any], one: np.ndarray, other: np.ndarray) -> float | None:
    both = np.isfinite(one) & np.isfinite(other)
    one, other = one[both], other[both]
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return finite(measure(one, other).statistic)
