"""Intervals by the bootstrap, over utterances or over speakers.

Utterances of one speaker resemble each other, so where speakers are known they are drawn whole; an interval over their
utterances would be too narrow. Everything is computed on the same draws, so that differences are paired. Pure.
N utterances, P units that are drawn, R rounds, M columns.

References: Field and Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x (drawing whole clusters);
Liu and Peng 2020, https://arxiv.org/abs/1912.09508 (speakers).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

ROUNDS = 2000
SEED = 20260

_MOST_WEIGHTS = 16_000_000  # rounds x units: 128 MB of float64
_RANK_CELLS = 20_000_000  # rounds x utterances that are ranked; some ten operations each
_BLOCK_CELLS = 1_000_000


@dataclass(frozen=True)
class Resampling:
    """Bootstrap draws.

    Attributes:
        unit: what is drawn: `speakers` or `utterances`.
        unit_N: the unit of each utterance.
        weight_RP: how often each round draws each unit.
    """

    unit: str
    unit_N: np.ndarray
    weight_RP: np.ndarray

    def sums(self, values_NM: np.ndarray) -> np.ndarray:
        """Return the sums of M columns over the utterances of each round, [R, M]."""
        sums_PM = np.zeros((self.weight_RP.shape[1], values_NM.shape[1]))
        np.add.at(sums_PM, self.unit_N, values_NM)
        return self.weight_RP @ sums_PM

    def sums_by_group(self, values_N: np.ndarray, group_N: np.ndarray, num_groups: int) -> np.ndarray:
        """Return the sum of each group in each round, [R, G], for groups numbered from 0."""
        num_units = self.weight_RP.shape[1]
        cells = np.bincount(self.unit_N * num_groups + group_N, values_N, minlength=num_units * num_groups)
        return self.weight_RP @ cells.reshape(num_units, num_groups)

    def num_units(self, member_N: np.ndarray) -> int:
        """Count the units that have one of these utterances."""
        return len(np.unique(self.unit_N[member_N]))


def resampling(frame: pd.DataFrame, rounds: int = ROUNDS) -> Resampling:
    """Draw units: speakers where at least two are known, else utterances.

    Units are drawn within each group when each unit lies in one group, as patients and controls do; else over all. Groups
    of one unit each are drawn together, a single such group with the smallest other: alone it would be the same in
    every round, and what it adds to an interval over all groups would be missing (collapsed strata).
    Where there are too many (8,000 for 2,000 rounds), random bundles of them are drawn whole: units are alike in
    distribution, so bundles of equal size give the same spread.

    Args:
        frame: one row per utterance with group and, where known, speaker.
        rounds: R.

    Reference: Wolter 2007, https://doi.org/10.1007/978-0-387-35099-8, 2.5 (collapsed strata).
    """
    rng = np.random.default_rng(SEED)
    has_speakers = "speaker" in frame.columns and frame["speaker"].nunique() > 1
    unit_N = pd.factorize(frame["speaker"])[0] if has_speakers else np.arange(len(frame))
    group_N = pd.factorize(frame["group"])[0]
    nested = len(np.unique(unit_N * (group_N.max() + 1) + group_N)) == unit_N.max() + 1
    stratum_P = np.zeros(unit_N.max() + 1, dtype=int)
    if nested:
        stratum_P[unit_N] = group_N
        stratum_P = _without_lone_ones(stratum_P)
    most = max(1, _MOST_WEIGHTS // rounds // (stratum_P.max() + 1))
    bundle_P, weights, start = np.empty_like(stratum_P), [], 0
    for stratum in range(stratum_P.max() + 1):
        members = np.flatnonzero(stratum_P == stratum)
        size = min(len(members), most)
        bundle_P[members] = start + rng.permutation(len(members)) % size
        weights.append(rng.multinomial(size, np.full(size, 1 / size), size=rounds).astype(float))
        start += size
    return Resampling("speakers" if has_speakers else "utterances", bundle_P[unit_N], np.concatenate(weights, axis=1))


def _without_lone_ones(stratum_P: np.ndarray) -> np.ndarray:
    """Join strata of one unit with each other, or one with the smallest other; numbered anew from 0."""
    size_S = np.bincount(stratum_P)
    joined = np.flatnonzero(size_S == 1)
    if len(joined) == 0:
        return stratum_P
    if len(joined) == 1 and len(size_S) > 1:
        joined = np.append(joined, min((size, stratum) for stratum, size in enumerate(size_S) if size > 1)[1])
    return np.unique(np.where(np.isin(stratum_P, joined), joined[0], stratum_P), return_inverse=True)[1]


def bounds(rounds_R: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval; NaN where no round has a value."""
    rounds_R = rounds_R[np.isfinite(rounds_R)]  # a round may draw nothing of a group
    if len(rounds_R) == 0:
        return np.nan, np.nan
    low, high = np.quantile(rounds_R, [0.025, 0.975])
    return float(low), float(high)


def expanded_bounds(rounds_R: np.ndarray, centre: float, se: float, df: float) -> tuple[float, float]:
    """Return the 95 % percentile interval, stretched about its centre to the spread that is known to be right.

    The plain percentile interval is too narrow with few units: drawing P of P units shows (P - 1) / P of their variance,
    and no t. Where rounds draw several crossed things at once it is too wide, as what they share is counted more than once.

    Args:
        rounds_R: the estimate in each round.
        centre: the estimate.
        se: its standard error.
        df: the degrees of freedom of `se`.

    Reference: Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789 (the expanded percentile interval).
    """
    rounds_R = rounds_R[np.isfinite(rounds_R)]  # a round may draw no reference word at all
    if len(rounds_R) == 0 or not np.isfinite(se):
        return np.nan, np.nan
    drawn = float(rounds_R.std())
    stretch = se / drawn * float(stats.t.ppf(0.975, df) / stats.norm.ppf(0.975)) if drawn > 0 else 0.0
    low, high = (np.quantile(rounds_R, [0.025, 0.975]) - centre) * stretch + centre
    return float(low), float(high)


def pearson_rounds(draws: Resampling, x_N: np.ndarray, y_N: np.ndarray, member_N: np.ndarray) -> np.ndarray:
    """Return Pearson's r of the chosen utterances in each round, [R]; NaN where one side does not vary."""
    x_N, y_N = x_N - x_N[member_N].mean(), y_N - y_N[member_N].mean()  # moments about the mean keep their digits
    moments_NM = np.stack([np.ones_like(x_N), x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N], axis=1)
    return _correlation(*draws.sums(np.where(member_N[:, None], moments_NM, 0.0)).T)


def spearman_rounds(draws: Resampling, x_N: np.ndarray, y_N: np.ndarray, member_N: np.ndarray) -> np.ndarray:
    """Return Spearman's rho of the chosen utterances in each round, ranked anew in each; [R].

    Over many utterances fewer rounds are ranked, at least 200.
    """
    unit_N, x_N, y_N = draws.unit_N[member_N], x_N[member_N], y_N[member_N]
    num_rounds = int(np.clip(_RANK_CELLS // len(x_N), 200, ROUNDS))
    block = max(1, _BLOCK_CELLS // len(x_N))
    order_x, order_y = _Order.of(x_N), _Order.of(y_N)
    found = []
    for start in range(0, num_rounds, block):
        weight_RN = draws.weight_RP[start : min(start + block, num_rounds)][:, unit_N]
        rank_x_RN, rank_y_RN = order_x.ranks(weight_RN), order_y.ranks(weight_RN)
        weighted_x_RN, weighted_y_RN = weight_RN * rank_x_RN, weight_RN * rank_y_RN
        sums = [part.sum(axis=1) for part in (weight_RN, weighted_x_RN, weighted_y_RN)]
        pairs = ((weighted_x_RN, rank_x_RN), (weighted_y_RN, rank_y_RN), (weighted_x_RN, rank_y_RN))
        found.append(_correlation(*sums, *(np.einsum("rn,rn->r", one, other) for one, other in pairs)))
    return np.concatenate(found)


@dataclass(frozen=True)
class _Order:
    """The V distinct values of a column, in order.

    Attributes:
        order_N: places of the utterances by value.
        starts_V: where each distinct value begins in that order.
        value_N: which distinct value each utterance has.
    """

    order_N: np.ndarray
    starts_V: np.ndarray
    value_N: np.ndarray

    @classmethod
    def of(cls, values_N: np.ndarray) -> _Order:
        _, starts_V, value_N = np.unique(np.sort(values_N), return_index=True, return_inverse=True)
        order_N = np.argsort(values_N, kind="stable")
        place_N = np.empty_like(value_N)
        place_N[order_N] = value_N
        return cls(order_N, starts_V, place_N)

    def ranks(self, weight_RN: np.ndarray) -> np.ndarray:
        """Return mid-ranks as fractions of the drawn utterances, about 0, in each round; [R, N]."""
        weight_RV = np.add.reduceat(weight_RN[:, self.order_N], self.starts_V, axis=1)
        total_R1 = np.maximum(weight_RV.sum(axis=1, keepdims=True), 1.0)
        return ((np.cumsum(weight_RV, axis=1) - weight_RV / 2) / total_R1 - 0.5)[:, self.value_N]


def _correlation(
    n: np.ndarray, x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray
) -> np.ndarray:
    """Return r from sums; NaN where a side varies no more than rounding does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        varies_x, varies_y = xx - x * x / n, yy - y * y / n
        r = (xy - x * y / n) / np.sqrt(varies_x * varies_y)
        return np.where((varies_x > 1e-12 * xx) & (varies_y > 1e-12 * yy), np.clip(r, -1.0, 1.0), np.nan)
