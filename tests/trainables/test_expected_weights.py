"""The weight of an utterance over many updates is the mean over all the updates that training may put it in."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest

from trainables.expected_weights import mean_weights, population_size
from trainables.reductions import REDUCTIONS, Update, parse
from trainables.shares import presets

GROUPS = ("rare", "usual")
LABELS = np.array([2, 3, 3, 5, 30, 41, 55])
WEIGHTED = "dataset_weighted(rare=1.3, usual=0.7)"


def population(labels: np.ndarray, rare: int) -> Update:
    codes = np.array([0] * rare + [1] * (len(labels) - rare))
    counts = np.bincount(codes, minlength=2)
    return Update(labels, 3 * labels + 40, codes, GROUPS, counts, np.zeros(len(labels), dtype=int))


@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("reduction", ["token_mean", "frame_mean", "group_dro"])
def test_it_is_the_mean_over_every_update_that_there_can_be(reduction: str, size: int) -> None:
    whole, rows = population(LABELS, 3), len(LABELS)
    one = parse(reduction)
    state = one.initial_state(GROUPS, whole.training_count_G)
    expected_N = np.zeros(rows)
    # Full updates have all but the rest of an epoch; the smaller one at its end has that.
    for together, part in ((size, 1 - rows % size / rows), (rows % size, rows % size / rows)):
        for chosen in itertools.combinations(range(rows), together) if together else ():
            weight_M, normaliser = one(whole.taken(chosen), state)
            expected_N[list(chosen)] += part * weight_M / normaliser / comb(rows - 1, together - 1)
    [mean_N] = mean_weights([one], whole, size, rows)
    assert mean_N == pytest.approx(expected_N, rel=0.05)
    assert np.bincount(whole.group_N, mean_N) == pytest.approx(np.bincount(whole.group_N, expected_N), rel=0.02)


@pytest.mark.parametrize(("rare", "size"), [(40, 8), (400, 8), (40, 64), (1000, 2)])
def test_a_group_has_under_group_dro_the_part_of_the_updates_that_hold_it(rare: int, size: int) -> None:
    rows = 2048  # whole updates of each of these sizes
    [mean_N] = mean_weights([parse("group_dro")], population(np.full(rows, 9), rare), size, rows)
    for mean, number in ((mean_N[:rare], rare), (mean_N[rare:], rows - rare)):
        held = 1 - comb(rows - number, size) / comb(rows, size)
        # q_g = 1/2, shared by size x number / rows of the group in an update, on average.
        assert mean.mean() == pytest.approx(held / 2 / (size * number / rows), rel=0.02)


def test_alone_an_utterance_has_its_own_weight_and_all_together_have_that_of_one_update() -> None:
    whole = population(LABELS, 3)
    token, dro = (parse(name) for name in ("token_mean", "group_dro"))
    alone = mean_weights([token, dro], whole, 1, 7)
    assert alone.tolist() == [(1 / LABELS).tolist(), [0.5] * 7]
    for size in (7, 100):
        together = mean_weights([token, dro], whole, size, 7)
        assert together[0] == pytest.approx(np.full(7, 1 / LABELS.sum()), rel=1e-12)
        assert together[1] == pytest.approx(np.array([1 / 6] * 3 + [1 / 8] * 4), rel=1e-12)


def test_the_numbers_are_the_same_in_every_call_and_nothing_is_dealt_for_nobody() -> None:
    whole, token = population(LABELS, 3), parse("token_mean")
    assert np.array_equal(mean_weights([token], whole, 3, 7), mean_weights([token], whole, 3, 7))
    assert mean_weights([], whole, 3, 7).shape == (0, 7)


@pytest.mark.parametrize("reduction", [str(one) for one in presets([WEIGHTED])])
def test_a_reduction_says_whether_the_weight_of_an_utterance_follows_from_its_mates(reduction: str) -> None:
    labels = np.random.default_rng(5).integers(1, 60, 60)
    whole, one = population(labels, 20), parse(reduction)
    state = one.initial_state(GROUPS, whole.training_count_G)
    differs = False
    for mates in itertools.pairwise(
        np.random.default_rng(6).permuted(np.tile(np.arange(1, 60), (40, 1)), axis=1)[:, :5]
    ):
        here, there = (one(whole.taken([0, *others]), state) for others in mates)
        differs = differs or here[0][0] / here[1] != pytest.approx(there[0][0] / there[1], rel=1e-12)
    assert differs == one.depends_on_mates


def test_every_member_of_the_family_is_asked_for_its_mates() -> None:
    assert {one.name for one in presets([WEIGHTED])} == set(REDUCTIONS)


def test_as_many_share_updates_as_make_them_what_they_are_in_training() -> None:
    assert population_size(rows=20_000, update_size=8, audited=2000) == 2000
    assert population_size(rows=20_000, update_size=256, audited=2000) == 32 * 256
    assert population_size(rows=500, update_size=256, audited=6) == 500
