"""The weight that training gives an utterance, on average over the utterances that share its update.

Where Z or the weights of a reduction follow from who shares an update (`Reduction.depends_on_mates`), no single update
shows it: an update of few labels weighs each of its utterances more under `token_mean`, a group that an update lacks adds
nothing under `group_dro`. So a population of utterances is dealt into updates again and again, as training deals them
(`packing.updates`), and w / Z is averaged. Arithmetic on numbers of utterances alone: no audio, no model.

R reductions, N utterances of the population.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainables import packing
from trainables.reductions import Reduction, Update

_UPDATES, _DRAWN = 4096, 1_000_000
"""Updates, or utterances in all of them, that are dealt at least; the lesser. The share of a class of a few hundred
utterances then scatters by 1 to 2 % of itself where updates are small, and by less where they are large."""

_ENOUGH = 32
"""Full updates in an epoch beyond which the smaller one at its end is left out. As many are dealt at least."""


def population_size(rows: int, update_size: int, audited: int) -> int:
    """Return how many of the utterances of an epoch are dealt: the audited ones, and others enough to share updates."""
    return min(rows, max(audited, _ENOUGH * update_size))


def mean_weights(reductions: Sequence[Reduction], population: Update, update_size: int, rows: int) -> np.ndarray:
    """Average w / Z over deals, every reduction with memory in its initial state.

    The update at the end of an epoch is smaller where the utterances do not come out even: in `rows mod update_size` of
    `rows` cases an utterance is in that one. Where an epoch has many updates that hardly counts, and is left out.

    Args:
        reductions: any.
        population: the utterances that are dealt, as one update.
        update_size: utterances of an update.
        rows: utterances of an epoch, of which the population may be a sample.

    Returns:
        mean_RN; the same numbers in every call.
    """
    if not reductions:
        return np.zeros((0, len(population)))
    size = min(update_size, rows)
    mean_RN, smaller = _mean(reductions, population, size), rows % size
    if smaller and rows < _ENOUGH * size:
        part = smaller / rows
        mean_RN = (1 - part) * mean_RN + part * _mean(reductions, population, smaller)
    return mean_RN


def _mean(reductions: Sequence[Reduction], population: Update, size: int) -> np.ndarray:
    """Average w / Z over updates of one size."""
    _, counts_G = population.require_groups()
    states = [reduction.initial_state(population.groups, counts_G) for reduction in reductions]
    sum_RN, times_N = np.zeros((len(reductions), len(population))), np.zeros(len(population))
    alike = size in (1, len(population))  # alone, or all together: every deal is the same
    at_least = 1 if alike else min(_UPDATES, -(-_DRAWN // size))
    updates = deal = 0
    while updates < at_least or not times_N.all():
        for dealt in packing.updates(len(population), size, seed=0, epoch=deal):
            if len(dealt) == size:
                update = population.taken(dealt)
                for sum_N, reduction, state in zip(sum_RN, reductions, states):
                    weight_M, normaliser = reduction(update, state)
                    sum_N[dealt] += weight_M / normaliser
                times_N[dealt] += 1
                updates += 1
        deal += 1
    return sum_RN / times_N
