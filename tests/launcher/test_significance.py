"""Tests of significance against enumeration, closed forms and other programs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from launcher.resampling import expanded_bounds
from launcher.significance import (
    Spread,
    benjamini_hochberg,
    equivalence,
    mapsswe,
    mcnemar,
    over_seeds,
    seeds_needed,
    sign_flip,
    smallest_p,
    spread_of_units,
    spread_of_units_and_seeds,
    two_sided,
)

VALUES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=2, max_size=9)


@given(VALUES)
def test_sign_flips_are_counted_exactly(values: list[float]) -> None:
    part_P = np.array(values)
    sums = [abs(np.dot(signs, part_P)) for signs in itertools.product((-1, 1), repeat=len(part_P))]
    expected = np.mean([total >= abs(part_P.sum()) - 1e-9 for total in sums])
    assert sign_flip(part_P) == pytest.approx(expected)
    assert smallest_p(len(part_P)) - 1e-12 <= sign_flip(part_P) <= 1


def test_eight_speakers_that_agree_reach_two_in_256() -> None:
    assert sign_flip(np.full(8, -0.01)) == smallest_p(8) == 2 / 256


def test_random_flips_agree_with_exact_ones() -> None:
    part_P = np.random.default_rng(4).normal(0.2, 1, 16)
    exact = sign_flip(part_P)
    assert sign_flip(np.append(part_P, 0.0)) == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


def test_one_speaker_cannot_be_tested() -> None:
    assert math.isnan(sign_flip(np.array([0.3])))
    assert math.isnan(smallest_p(1))


def test_mapsswe_is_the_z_of_the_mean_difference_and_no_sign_test() -> None:
    difference_N = np.array([3, 0, 0, -1, 2, 0, 1, 1, 0, 0.0])
    z, p = mapsswe(difference_N)
    assert z == pytest.approx(difference_N.mean() / (difference_N.std(ddof=1) / math.sqrt(10)))
    assert p == pytest.approx(2 * stats.norm.sf(z))
    assert all(map(math.isnan, mapsswe(np.zeros(5))))


def test_mcnemar_of_one_seed_is_the_binomial_test_of_the_discordant_words() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.random((1, 60)) < 0.5, rng.random((1, 60)) < 0.3
    worse, better = int((one & ~other).sum()), int((~one & other).sum())
    assert mcnemar(one, other) == pytest.approx(stats.binomtest(worse, worse + better).pvalue)
    assert mcnemar(one, one) == 1.0


def test_copies_of_a_seed_make_no_word_more_significant() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.random((1, 60)) < 0.6, rng.random((1, 60)) < 0.3
    alone = mcnemar(one, other)
    for copies in (2, 3, 6):
        assert mcnemar(np.repeat(one, copies, 0), np.repeat(other, copies, 0)) >= alone


def test_equivalence_is_the_two_one_sided_tests_of_statsmodels() -> None:
    difference = np.array([0.004, -0.003, 0.006, 0.001, 0.002])
    spread = Spread(float(stats.sem(difference)), 4)
    expected = ttost_paired(difference, np.zeros(5), -0.01, 0.01)[0]
    assert equivalence(difference.mean(), spread, 0.01) == pytest.approx(expected)


def test_test_of_a_difference_is_students_where_the_spread_is_that_of_seeds() -> None:
    difference = np.array([0.04, -0.03, 0.06, 0.01, 0.02])
    expected = stats.ttest_1samp(difference, 0).pvalue
    assert two_sided(difference.mean(), Spread(float(stats.sem(difference)), 4)) == pytest.approx(expected)


@pytest.mark.parametrize("effect", [0.3, 0.5, 0.8, 1.5, 3.0])
def test_seeds_needed_are_those_of_statsmodels(effect: float) -> None:
    exact = TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8, alternative="two-sided")
    assert seeds_needed(0.02, 0.02 * effect) == pytest.approx(max(2, math.ceil(exact)))


def test_seeds_needed_for_small_effects_are_close_to_the_normal_number() -> None:
    exact = TTestPower().solve_power(effect_size=0.1, alpha=0.05, power=0.8, alternative="two-sided")
    assert abs(seeds_needed(1.0, 0.1) - exact) <= 2
    assert seeds_needed(0.01, 0.0) == math.inf
    assert math.isnan(seeds_needed(math.nan, 0.1))


def test_benjamini_hochberg_agrees_with_statsmodels_and_passes_over_what_is_missing() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.5, 0.02])
    expected = list(multipletests(p, method="fdr_bh")[1])
    assert list(benjamini_hochberg(p)) == pytest.approx(expected)
    assert list(benjamini_hochberg(np.append(p, np.nan)))[:-1] == pytest.approx(expected)


def test_all_seeds_alike_have_no_test_over_seeds() -> None:
    assert all(map(math.isnan, over_seeds(np.full(4, 0.25))))
    assert all(map(math.isnan, over_seeds(np.array([0.1]))))
    assert all(map(math.isnan, over_seeds(np.array([0.3 - 0.1, 0.2]))))  # they differ in their last bit


def centred(part_PK: np.ndarray) -> np.ndarray:
    return part_PK - part_PK.mean(axis=0)


def equal(num_units: int) -> np.ndarray:
    return np.full(num_units, 1 / num_units)


# As of 15 speakers of single words and two of sentences; as of no two speakers alike; as of utterances of 1 to 9 words.
UNEQUAL = (
    np.array([40] * 15 + [900] * 2) / 2400,
    np.random.default_rng(3).dirichlet(np.full(9, 0.7)),
    (np.arange(300) % 9 + 1) / (np.arange(300) % 9 + 1).sum(),
)


def test_units_of_equal_size_have_the_standard_error_of_a_mean() -> None:
    part_P1 = centred(np.random.default_rng(0).normal(size=(9, 1)))
    assert spread_of_units(part_P1 / 9, equal(9)) == pytest.approx((stats.sem(part_P1[:, 0]), 8))


@pytest.mark.parametrize("share_P", [equal(8), *UNEQUAL])
def test_spread_over_units_is_that_of_regression_with_bias_reduced_errors(share_P: np.ndarray) -> None:
    """CR2 and its degrees of freedom by the matrices of the papers: rates on a constant, weighted by words."""
    rate_P = np.random.default_rng(1).normal(0.1, 0.04, len(share_P))
    ones, weights = np.ones((len(share_P), 1)), np.diag(share_P)
    bread = np.linalg.inv(ones.T @ weights @ ones)
    residuals = np.eye(len(share_P)) - ones @ bread @ ones.T @ weights
    left = 1 / np.sqrt(np.diag(residuals @ residuals.T))  # units that differ equally much
    found = bread @ ones.T @ weights @ np.diag(left * (residuals @ rate_P))
    of_rates = np.diag((bread @ ones.T @ weights @ np.diag(left)).ravel()) @ residuals
    squares = np.linalg.eigvalsh(of_rates @ of_rates.T)
    part_P1 = (share_P * (rate_P - share_P @ rate_P))[:, None]
    expected = float(np.sqrt((found**2).sum())), squares.sum() ** 2 / (squares**2).sum()
    assert spread_of_units(part_P1, share_P) == pytest.approx(expected)


@pytest.mark.parametrize("share_P", UNEQUAL[:2])
def test_units_of_unequal_size_are_found_to_differ_from_nothing_no_more_often_than_the_test_says(share_P) -> None:
    rng = np.random.default_rng(7)
    found = []
    for _ in range(2000):
        rate_P = rng.normal(0, 0.04, len(share_P))
        mean = float(share_P @ rate_P)
        found.append(two_sided(mean, spread_of_units((share_P * (rate_P - mean))[:, None], share_P)) < 0.05)
    assert np.mean(found) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_a_unit_that_has_all_words_says_nothing_of_others() -> None:
    assert all(map(math.isnan, spread_of_units(np.zeros((3, 1)), np.array([0.0, 1.0, 0.0]))))


def test_copies_of_a_seed_leave_the_spread_as_it_is() -> None:
    part_P1 = centred(np.random.default_rng(0).normal(size=(9, 1)))
    copies = spread_of_units_and_seeds(np.repeat(part_P1, 6, axis=1), equal(9), np.full(6, 0.1))
    assert copies == pytest.approx(spread_of_units(part_P1, equal(9)))


def test_units_that_do_not_differ_leave_the_spread_over_seeds() -> None:
    difference_K = np.array([0.1, 0.2, 0.15, 0.05, 0.12])
    spread = spread_of_units_and_seeds(np.zeros((9, 5)), equal(9), difference_K)
    assert spread == pytest.approx((stats.sem(difference_K), 4))


@pytest.mark.parametrize("share_P", [equal(12), *UNEQUAL[:2]])
def test_spread_of_crossed_units_and_seeds_is_right_on_average(share_P: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    units, seeds, of_unit, of_seed, of_both = len(share_P), 6, 1.0, 0.6, 1.0
    found = []
    for _ in range(3000):
        values = (rng.normal(0, of_unit, (units, 1)) + rng.normal(0, of_seed, (1, seeds))
                  + rng.normal(0, of_both, (units, seeds)))  # fmt: skip
        difference_K = share_P @ values
        part_PK = share_P[:, None] * (values - difference_K)
        found.append(spread_of_units_and_seeds(part_PK, share_P, difference_K).se ** 2)
    together = float(np.square(share_P).sum())
    truth = of_unit**2 * together + of_seed**2 / seeds + of_both**2 * together / seeds
    assert np.mean(found) == pytest.approx(truth, rel=0.05)


def test_interval_is_stretched_to_the_error_that_is_known() -> None:
    rounds_R = np.random.default_rng(0).normal(1.0, 0.1, 100_000)
    low, high = expanded_bounds(rounds_R, 1.0, 0.2, 7)
    expected = stats.t.interval(0.95, 7, 1.0, 0.2)
    assert (low, high) == pytest.approx(expected, rel=0.02)


def test_interval_keeps_the_skew_of_the_rounds() -> None:
    rounds_R = np.random.default_rng(0).exponential(1.0, 100_000)
    low, high = expanded_bounds(rounds_R, 1.0, 0.3, 9)
    assert high - 1.0 > 1.0 - low > 0
