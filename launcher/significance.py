"""Tests of a paired difference of word error rates, on arrays.

Pure. Differences are those of the variant minus those of the baseline. P speakers (or other units), K paired seeds,
N utterances. Every p-value is two-sided unless it says otherwise, and NaN where a test says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05
POWER = 0.8

_EXACT_UNITS = 16  # 2^16 flips: 65,536 x 16 signs
_RANDOM_FLIPS = 20_000
_BLOCK_CELLS = 4_000_000
_FLIP_SEED = 20261
_ROUNDING = 1e-9  # sums of fractions in another order may differ in their last bits
_MOST_EXACT_SEEDS = 100


class Spread(NamedTuple):
    """The standard error of a difference, and its degrees of freedom."""

    se: float
    df: float


def spread_of_units(part_PK: np.ndarray, share_P: np.ndarray) -> Spread:
    """Return the spread over units, given the seeds.

    A unit with many words pulls the difference towards itself, so that less of it is left in its part than it moves the
    difference by. Each square is scaled by what is missing where units differ equally much, and the degrees of freedom
    are those of squares of so unequal weight: units of equal size have P / (P - 1) and P - 1 (CR2, Bell and McCaffrey).

    Args:
        part_PK: what each unit moves the difference of each seed by; sums to 0 over the units.
        share_P: the part of all words that each unit has; they sum to 1.

    References: Bell and McCaffrey 2002, Survey Methodology 28;
    Pustejovsky and Tipton 2018, https://doi.org/10.1080/07350015.2016.1247004
    """
    if len(part_PK) < 2 or not share_P.max() < 1:  # what one unit has all words of says nothing of others
        return Spread(math.nan, math.nan)
    scaled_P = np.square(part_PK.mean(axis=1)) / _left(share_P)
    return Spread(math.sqrt(float(scaled_P.sum())), freedom_of_units(share_P))


def spread_of_units_and_seeds(part_PK: np.ndarray, share_P: np.ndarray, difference_K: np.ndarray) -> Spread:
    """Return the spread over units and seeds, which are crossed: every seed is judged on the same units.

    The variance over units and that over seeds both hold what is left of a unit in a seed, so that is taken off
    once. Degrees of freedom are Satterthwaite's.

    Args:
        part_PK: what each unit moves the difference of each seed by; sums to 0 over the units.
        share_P: the part of all words that each unit has; they sum to 1.
        difference_K: the difference of each seed.

    Reference: Cameron, Gelbach and Miller 2011, https://doi.org/10.1198/jbes.2010.07136
    """
    num_seeds = part_PK.shape[1]
    over_units = spread_of_units(part_PK, share_P)
    if num_seeds < 2 or not math.isfinite(over_units.se):
        return over_units
    of_units, units_df, seeds_df = over_units.se**2, over_units.df, num_seeds - 1
    of_seeds = float(difference_K.var(ddof=1)) / num_seeds
    rest_PK = part_PK - part_PK.mean(axis=1, keepdims=True)
    shared = float((np.square(rest_PK).sum(axis=1) / _left(share_P)).sum()) / (num_seeds * seeds_df)
    variance = max(of_units, of_seeds, of_units + of_seeds - shared)
    freedom = of_units**2 / units_df + of_seeds**2 / seeds_df + shared**2 / (units_df * seeds_df)
    least = min(units_df, seeds_df)
    return Spread(math.sqrt(variance), max(variance**2 / freedom, least) if freedom > 0 else least)


def freedom_of_units(share_P: np.ndarray) -> float:
    """Return the degrees of freedom of the spread over units: P - 1 for units of equal size, fewer for unequal ones.

    Satterthwaite's, of the sum of squares that is the variance over units: tr(B)^2 / tr(B B) with B_pq =
    share_p share_q (1{p = q} - share_p - share_q + sum of squares) / sqrt(left_p left_q), in sums over single units, as an
    array of P x P would not fit for thousands of utterances.

    Args:
        share_P: the part of all words that each unit has; they sum to 1, and none is 1.
    """
    weight_P, together = share_P**2 / _left(share_P), _squares(share_P)
    all_, first, second = (float((weight_P * share_P**power).sum()) for power in (0, 1, 2))
    of_pairs = together**2 * all_**2 + 2 * all_ * second - 4 * together * all_ * first + 2 * first**2
    of_pairs -= _squares(weight_P * (together - 2 * share_P))  # a unit makes no pair with itself
    # Where one unit has nearly all, rounding may step over the least that it can be.
    return float(np.clip(together**2 / (float((share_P**4).sum()) + of_pairs), 1, len(share_P) - 1))


def _left(share_P: np.ndarray) -> np.ndarray:
    """Return how much of the variance of a unit is left once the difference of all is taken off."""
    return 1 - 2 * share_P + _squares(share_P)


def _squares(values: np.ndarray) -> float:
    return float(np.square(values).sum())


def sign_flip(part_P: np.ndarray) -> float:
    """Test that variant and baseline could be exchanged in every unit: the sum against that of all flips of signs.

    Exact up to 16 units, else 20,000 random flips. The p-value of the exact test is at least `smallest_p`.

    Args:
        part_P: each unit's part of the difference; they add up to it.

    Reference: Winkler and others 2014, https://doi.org/10.1016/j.neuroimage.2014.01.060 (whole-block sign flips)
    """
    if len(part_P) < 2 or not np.isfinite(part_P).all():
        return math.nan
    size = np.abs(part_P).sum()
    seen = abs(part_P.sum()) - _ROUNDING * size
    if len(part_P) <= _EXACT_UNITS:
        # A flip and its mirror image have sums of the same size, so the first sign may stand still.
        bits = np.arange(2 ** (len(part_P) - 1))[:, None] >> np.arange(len(part_P)) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ part_P) >= seen))
    rng = np.random.default_rng(_FLIP_SEED)
    block, reached, left = max(1, _BLOCK_CELLS // len(part_P)), 0, _RANDOM_FLIPS
    while left > 0:
        flips = rng.integers(0, 2, (min(block, left), len(part_P)), dtype=np.int8)
        reached += int((np.abs(part_P.sum() - 2 * (flips @ part_P)) >= seen).sum())
        left -= block
    return (reached + 1) / (_RANDOM_FLIPS + 1)


def smallest_p(num_units: int) -> float:
    """Return the smallest p-value that `sign_flip` can give with so many units."""
    if num_units < 2:
        return math.nan
    return 2.0 ** (1 - num_units) if num_units <= _EXACT_UNITS else 1 / (_RANDOM_FLIPS + 1)


def mapsswe(difference_N: np.ndarray) -> tuple[float, float]:
    """Test the mean difference of errors per utterance (matched pairs, sentence-segment word error).

    Utterances are taken as independent, which those of one speaker are not.

    Args:
        difference_N: errors of the variant minus errors of the baseline.

    Returns:
        z and p; NaN with fewer than two utterances or where no two differ.

    Reference: Gillick and Cox 1989, https://doi.org/10.1109/ICASSP.1989.266481
    """
    if len(difference_N) < 2 or not (deviation := float(difference_N.std(ddof=1, dtype=np.float64))) > 0:
        return math.nan, math.nan
    z = float(difference_N.mean(dtype=np.float64)) / deviation * math.sqrt(len(difference_N))
    return z, float(2 * stats.norm.sf(abs(z)))


def mcnemar(wrong_KN: np.ndarray, base_wrong_KN: np.ndarray) -> float:
    """Test whether as many words are wrong in the variant alone as in the baseline alone (exact, binomial).

    Each seed has a test of its own. The same words in several seeds are no new words, so the p-values are joined by
    their median, times a factor of at most 2 that holds under any dependence.

    References: McNemar 1947, https://doi.org/10.1007/BF02295996; Rüger 1978, Metrika 25
    """
    worse_K = (wrong_KN & ~base_wrong_KN).sum(axis=1)
    better_K = (~wrong_KN & base_wrong_KN).sum(axis=1)
    p_K = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(worse_K, better_K), worse_K + better_K, 0.5))
    rank = (len(p_K) + 1) // 2
    return float(min(1.0, len(p_K) / rank * np.sort(p_K)[rank - 1]))


def over_seeds(difference_K: np.ndarray) -> tuple[float, float]:
    """Test the mean over seeds by Student's t.

    Returns:
        The standardised difference (mean / standard deviation) and p; NaN with one seed or where all are the same.
    """
    # Equal differences of fractions may differ in their last bits.
    least = _ROUNDING * float(np.abs(difference_K).max(initial=0))
    if len(difference_K) < 2 or not (deviation := float(difference_K.std(ddof=1))) > least:
        return math.nan, math.nan
    effect = float(difference_K.mean()) / deviation
    return effect, float(2 * stats.t.sf(abs(effect) * math.sqrt(len(difference_K)), len(difference_K) - 1))


def two_sided(difference: float, spread: Spread) -> float:
    """Test that there is no difference, by Student's t: of what the spread covers, units or units and seeds."""
    if not (math.isfinite(difference) and spread.se > 0):
        return math.nan
    return float(2 * stats.t.sf(abs(difference) / spread.se, spread.df))


def claimed(*p: float) -> float:
    """Return the p-value to claim from: the largest, as a claim must hold by every test; one that says nothing is left out.

    Reference: Berger 1982, https://doi.org/10.1080/00401706.1982.10487790 (intersection-union tests keep their level)
    """
    return max((one for one in p if math.isfinite(one)), default=math.nan)


def equivalence(difference: float, spread: Spread, margin: float) -> float:
    """Test that the difference is smaller than a margin on either side: two one-sided tests, the larger p.

    Reference: Schuirmann 1987, https://doi.org/10.1007/BF01068419
    """
    if not (math.isfinite(difference) and math.isfinite(spread.se)):
        return math.nan
    room = margin - abs(difference)
    if spread.se == 0:
        return 0.0 if room > 0 else 1.0
    return float(stats.t.sf(room / spread.se, spread.df))


def seeds_needed(deviation: float, difference: float) -> float:
    """Return how many paired seeds see a true difference with p < 0.05 four times in five.

    Args:
        deviation: standard deviation of the paired difference over seeds.
        difference: to be seen.

    Returns:
        At least 2; NaN where the deviation is not known, infinite for no difference.
    """
    if not (math.isfinite(deviation) and math.isfinite(difference)):
        return math.nan
    if deviation == 0 or difference == 0:
        return 2.0 if difference else math.inf
    effect = abs(difference) / deviation
    normal = ((stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(POWER)) / effect) ** 2
    if normal > _MOST_EXACT_SEEDS:
        return float(math.ceil(normal + 2))  # what Student's t adds there
    number_K = np.arange(2, _MOST_EXACT_SEEDS + 5)
    # At 30 the power is above 0.95 for two seeds already; far beyond it scipy's series gives up.
    shift_K = np.minimum(effect * np.sqrt(number_K), 30.0)
    power_K = stats.nct.sf(stats.t.isf(LEVEL / 2, number_K - 1), number_K - 1, shift_K)
    return float(number_K[np.argmax(power_K >= POWER)])


def benjamini_hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Correct p-values so that of those below a level at most that share is wrong; NaN stays and is not counted.

    Reference: Benjamini and Hochberg 1995, https://doi.org/10.1111/j.2517-6161.1995.tb02031.x
    """
    p = np.asarray(p, dtype=float)
    known = np.isfinite(p)
    corrected = np.full(len(p), np.nan)
    if known.any():
        corrected[known] = stats.false_discovery_control(p[known])
    return corrected
