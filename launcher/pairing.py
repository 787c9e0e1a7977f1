"""Put two variants side by side: the same seeds, the same utterances.

Pure. K paired seeds, U utterances that both score in every one of them, P units (speakers; or, of one speaker or of none
that is known, utterances).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from launcher.resampling import expanded_bounds, resampling
from launcher.significance import Spread, spread_of_units, spread_of_units_and_seeds
from launcher.stats import MIN_SEEDS
from launcher.tallies import Tally

_SEED = 20262


@dataclass(frozen=True)
class Pairs:
    """The scores of two variants on what both have.

    Attributes:
        seeds: what is paired.
        errors_KU: word errors of the variant.
        words_KU: its reference words.
        base_errors_KU: word errors of the baseline.
        base_words_KU: its reference words.
        speaker_U: number of the speaker of each utterance, from 0.
        num_dropped: utterances that some of these trials did not score.
        num_nameless: utterances whose speaker is not known. They count as one speaker more, which is true of any number of
            speakers if too wide; where all are so, there are no speakers to draw.
    """

    seeds: tuple[str, ...]
    errors_KU: np.ndarray
    words_KU: np.ndarray
    base_errors_KU: np.ndarray
    base_words_KU: np.ndarray
    speaker_U: np.ndarray
    num_dropped: int
    num_nameless: int = 0

    @property
    def num_seeds(self) -> int:
        """K."""
        return len(self.seeds)

    @property
    def num_utterances(self) -> int:
        """U."""
        return len(self.speaker_U)

    @property
    def num_speakers(self) -> int:
        """How many speakers the utterances are of."""
        return int(self.speaker_U.max()) + 1 if len(self.speaker_U) else 0

    @property
    def speakers_known(self) -> bool:
        """Whether it is known of any utterance who speaks."""
        return self.num_nameless < max(self.num_utterances, 1)

    @property
    def single_words(self) -> bool:
        """Whether every reference is one word."""
        return bool((self.words_KU == 1).all() and (self.base_words_KU == 1).all())


@dataclass(frozen=True)
class Difference:
    """A difference of corpus WER, variant minus baseline.

    Attributes:
        difference_K: of each seed.
        wer_K: WER of the variant in each seed.
        base_wer_K: WER of the baseline.
        part_PK: what each unit moves the difference of each seed by, beyond what its words would; sums to 0.
        share_P: the part of the words that each unit has.
        own_P: each unit's own part of the mean difference; they add up to it.
        spread: standard error of the mean difference.
        low: lower end of the 95 % interval.
        high: upper end.
        covers: what the interval generalises to.
    """

    difference_K: np.ndarray
    wer_K: np.ndarray
    base_wer_K: np.ndarray
    part_PK: np.ndarray
    share_P: np.ndarray
    own_P: np.ndarray
    spread: Spread
    low: float
    high: float
    covers: str

    @property
    def mean(self) -> float:
        """The difference, averaged over the seeds."""
        return float(self.difference_K.mean())


def pair(tallied: Tally, variant: str, baseline: str, member_U: np.ndarray | None = None) -> Pairs:
    """Collect what two variants have in common.

    Args:
        tallied: the scores.
        variant: the one.
        baseline: the other.
        member_U: the utterances that are looked at, as booleans; None: all.
    """
    rows = [
        tallied.trials[tallied.trials["variant"] == name].reset_index().set_index("pair")["index"]
        for name in (variant, baseline)
    ]
    seeds = sorted(set(rows[0].index) & set(rows[1].index))
    ours, theirs = (of_variant.loc[seeds].to_numpy(dtype=int) for of_variant in rows)
    looked_at = np.ones(len(tallied.utterances), dtype=bool) if member_U is None else member_U
    scored_U = [
        np.isfinite(tallied.errors[trials] + tallied.words[trials]).all(axis=0) & looked_at for trials in (ours, theirs)
    ]
    shared_U = scored_U[0] & scored_U[1] if seeds else np.zeros(len(looked_at), dtype=bool)
    place_U = np.flatnonzero(shared_U)
    nameless_U = tallied.nameless()
    speakers = np.where(nameless_U, -1, tallied.utterances["speaker"].cat.codes.to_numpy())
    return Pairs(
        tuple(seeds),
        *(table[np.ix_(trials, place_U)] for trials in (ours, theirs) for table in (tallied.errors, tallied.words)),
        speaker_U=np.unique(speakers[place_U], return_inverse=True)[1],
        num_dropped=max(int(scored.sum()) for scored in scored_U) - len(place_U) if seeds else 0,
        num_nameless=int(nameless_U[place_U].sum()),
    )


def compare(pairs: Pairs, rounds: int) -> Difference | None:
    """Return the difference with its interval; None where there is nothing to compare or a side has no reference word.

    The interval is a bootstrap. Each round draws speakers, each with all its utterances, and with `MIN_SEEDS` seeds or
    more also seeds; a round uses one draw of speakers for all its seeds, as every seed is judged on the same ones. Utterances are
    drawn where there is one speaker only: the totals of drawn speakers vary with their utterances already, and drawing
    these again would count that twice. The interval is then stretched to the spread of speakers and seeds (see
    `expanded_bounds`), and ends where a difference of rates does: both WER lie between 0 and 1, or what the worst unit has
    where insertions make that more.

    References: Liu and Peng 2020, https://arxiv.org/abs/1912.09508 (speakers);
    Field and Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x (whole ones);
    Owen 2007, https://doi.org/10.1214/07-AOAS122 (crossed draws).
    """
    sums = _sums_of_units(pairs)
    totals = np.concatenate([table.sum(axis=0) for table in sums])
    if (
        not pairs.num_seeds
        or not pairs.num_utterances
        or not (np.split(totals, 4)[1] * np.split(totals, 4)[3] > 0).all()
    ):
        return None
    errors_PK, words_PK, base_errors_PK, base_words_PK = sums
    words_K, base_words_K = words_PK.sum(axis=0), base_words_PK.sum(axis=0)
    wer_K, base_wer_K = errors_PK.sum(axis=0) / words_K, base_errors_PK.sum(axis=0) / base_words_K
    part_PK = (errors_PK - wer_K * words_PK) / words_K - (base_errors_PK - base_wer_K * base_words_PK) / base_words_K
    draws_seeds = pairs.num_seeds >= MIN_SEEDS  # fewer say next to nothing of other seeds
    difference_K = wer_K - base_wer_K
    share_P = (words_PK / words_K + base_words_PK / base_words_K).mean(axis=1) / 2
    spread = (
        spread_of_units_and_seeds(part_PK, share_P, difference_K) if draws_seeds else spread_of_units(part_PK, share_P)
    )
    rounds_R = _rounds(np.concatenate(sums, axis=1), pairs, rounds)
    low, high = expanded_bounds(rounds_R, float(difference_K.mean()), *spread)
    # With few speakers the interval is stretched past what rates can be.
    low, high = np.clip([low, high], -_highest_rate(base_errors_PK, base_words_PK), _highest_rate(errors_PK, words_PK))
    return Difference(
        difference_K, wer_K, base_wer_K, part_PK, share_P,
        own_P=(errors_PK / words_K - base_errors_PK / base_words_K).mean(axis=1),
        spread=spread, low=float(low), high=float(high), covers=_covers(pairs) if np.isfinite(low) else "",
    )  # fmt: skip


def _sums_of_units(pairs: Pairs) -> list[np.ndarray]:
    """Return errors and words of the variant and of the baseline, summed over the utterances of each unit; [P, K] each."""
    tables = (pairs.errors_KU, pairs.words_KU, pairs.base_errors_KU, pairs.base_words_KU)
    if pairs.num_speakers < 2:
        return [table.T.astype(float) for table in tables]
    return [np.stack([np.bincount(pairs.speaker_U, row) for row in table], axis=1) if len(table)
            else np.zeros((pairs.num_speakers, 0)) for table in tables]  # fmt: skip


def _highest_rate(errors_PK: np.ndarray, words_PK: np.ndarray) -> float:
    """Return the WER beyond which no rate over units like these lies: 1, or that of the worst unit."""
    there = words_PK > 0
    return max(1.0, float((errors_PK[there] / words_PK[there]).max(initial=0.0)))


def _rounds(sums_P4K: np.ndarray, pairs: Pairs, rounds: int) -> np.ndarray:
    """Return the difference in each of the rounds; NaN where a round draws no reference word."""
    units = pd.DataFrame({"group": "all", "speaker": np.arange(len(sums_P4K)) if pairs.num_speakers > 1 else 0},
                         index=range(len(sums_P4K)))  # fmt: skip
    totals_R4K = resampling(units, rounds).sums(sums_P4K)
    errors_RK, words_RK, base_errors_RK, base_words_RK = np.split(totals_R4K, 4, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference_RK = errors_RK / words_RK - base_errors_RK / base_words_RK
    num_seeds = pairs.num_seeds
    if num_seeds < MIN_SEEDS:
        return difference_RK.mean(axis=1)
    drawn_RK = np.random.default_rng(_SEED).multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=rounds)
    return (drawn_RK * difference_RK).sum(axis=1) / num_seeds


def _covers(pairs: Pairs) -> str:
    of_one = "utterances of this speaker" if pairs.speakers_known else "utterances, if they are independent"
    what = "speakers" if pairs.num_speakers > 1 else of_one
    if pairs.num_seeds >= MIN_SEEDS:
        return f"other seeds and other {what}"
    return f"other {what}, given {'this seed' if pairs.num_seeds == 1 else 'these seeds'}"
