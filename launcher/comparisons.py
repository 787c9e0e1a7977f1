"""Compare every variant with the baseline: what the tables of a study let one claim, and what they do not.

Pure: data frames in, data frames out. WER is a fraction, may exceed 1, and lower is better; a difference is variant minus baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from launcher.cautions import caution
from launcher.config_resolve import MARGIN
from launcher.loss_stats import holm
from launcher.noise import NoiseFloor, hidden
from launcher.pairing import Difference, Pairs, compare, pair
from launcher.significance import (
    LEVEL,
    benjamini_hochberg,
    claimed,
    equivalence,
    mapsswe,
    mcnemar,
    over_seeds,
    seeds_needed,
    sign_flip,
    smallest_p,
    two_sided,
)
from launcher.stats import MIN_SEEDS, MIN_SPEAKERS, pick_baseline, summary_by_variant
from launcher.tallies import Tally

ROUNDS = 10_000

METHOD = (
    "The difference is the variant's corpus WER minus the baseline's, on the same utterances, averaged over the seeds that both finished.",
    "Its 95 % interval is a bootstrap over speakers and, with five paired seeds or more, over seeds; captions say what it speaks of.",
    "p is the larger of p (speakers), sign flips of whole speakers, and p (interval), Student's t with the interval's standard error. With five "
    "paired seeds or more it speaks of other seeds and speakers, with fewer of these trained models. Holm's correction is for all variants.",
    "p (seeds) is Student's paired t: does the difference hold for other seeds, on these speakers?",
    "MAPSSWE takes utterances as independent, which those of one speaker are not: read it beside other papers, not as evidence.",
    "Equivalent means smaller than the margin on either side, by two one-sided tests, with five paired seeds and eight speakers or more. A "
    "large p alone does not say so.",
)
"""What the columns mean, a sentence each."""

_PAIRED = (
    "n_paired_seeds n_speakers n_utterances difference low high covers se df p_interval p_sign_flip smallest_p p p_holm p_seeds mapsswe_z mapsswe_p "
    "mcnemar_p relative_reduction effect_size margin tost_p equivalent within_noise seeds_needed seeds_needed_for_margin caution"
).split()
_OF_VARIANT = (
    "variant is_baseline baseline n_requested n_done n_seeds mean_wer seed_sd seed_low seed_high".split()
)  # fmt: skip
_OF_GROUP = (
    "variant baseline value n_paired_seeds n_speakers n_utterances reference_words wer baseline_wer difference low high covers "
    "p_interval p_sign_flip smallest_p p p_bh noise_floor within_noise caution"
).split()
_UNKNOWN = {"covers": "", "equivalent": False, "within_noise": False, "caution": ""}


def comparisons(
    results: pd.DataFrame, tallied: Tally, baseline: str | None = None, *, margin: float = MARGIN, noise: NoiseFloor | None = None,
    rounds: int = ROUNDS,
) -> pd.DataFrame:  # fmt: skip
    """Describe every variant over its seeds and compare it with the baseline.

    The family that Holm's method corrects for is every variant against the baseline on overall WER: declared before
    anything is seen, by the grid itself.

    Args:
        results: one row per requested trial.
        tallied: their scores.
        baseline: None means the first variant of the study.
        margin: differences of WER within it count as none, for the test of equivalence.
        noise: how far equal runs differ, if that was measured.
        rounds: of the bootstrap.

    Returns:
        One row per variant, in the order of the study; the columns are described in docs/statistics.md. What could not be
        computed is NaN, with the reason in `caution`; so is what compares the baseline with itself.

    Raises:
        ValueError: the baseline is not a variant, or the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(
            f"margin must be above 0, got {margin!r}; it is a difference of WER, such as 0.01 for one point"
        )
    baseline = pick_baseline(results, baseline)
    rows = []
    for row in summary_by_variant(results, "wer").to_dict("records"):
        head = {"is_baseline": row["variant"] == baseline, "baseline": baseline, **_over_own_seeds(row)}
        own = (
            {} if head["is_baseline"] else _paired(pair(tallied, row["variant"], str(baseline)), margin, noise, rounds)
        )
        rows.append({**dict.fromkeys(_PAIRED, math.nan), **_UNKNOWN, **head, **own})
    table = pd.DataFrame(rows, columns=[*_OF_VARIANT, *_PAIRED])
    return table.assign(p_holm=holm(table["p"].to_numpy(dtype=float)))


def group_comparisons(
    results: pd.DataFrame, tallied: Tally, column: str, baseline: str | None = None, *, noise: Mapping[str, float] | None = None,
    rounds: int = ROUNDS,
) -> pd.DataFrame:  # fmt: skip
    """Compare every other variant with the baseline within each class of a column: to explore, not to conclude.

    Args:
        results: one row per requested trial.
        tallied: their scores, with the column.
        column: whose classes are compared.
        baseline: None means the first variant of the study.
        noise: how far equal runs differ in each class (`launcher.noise.floor_by_class`), if that was measured.
        rounds: of the bootstrap.

    Returns:
        variant, baseline, value (the class), n_paired_seeds, n_speakers, n_utterances, reference_words (of a seed), wer and
        baseline_wer (means over the paired seeds), difference, low, high, covers, p_interval, p_sign_flip, smallest_p, p,
        p_bh (p after Benjamini and Hochberg over all rows), noise_floor, within_noise, caution.

    Raises:
        ValueError: the column was not kept in `tallied`, or the baseline is not a variant.
    """
    baseline = pick_baseline(results, baseline)
    others = [name for name in results["variant"].unique() if name != baseline] if baseline is not None else []
    found = []
    if others:
        classes = tallied.classes(column)
        for name in others:
            for value in classes.cat.categories:
                pairs = pair(tallied, name, str(baseline), (classes == value).to_numpy())
                floor = (noise or {}).get(value, math.nan)
                found.append({"variant": name, "baseline": baseline, "value": value, **_in_group(pairs, floor, rounds)})
    table = pd.DataFrame(found, columns=_OF_GROUP)
    return table.assign(p_bh=benjamini_hochberg(table["p"].to_numpy(dtype=float)))


def group_rates(results: pd.DataFrame, tallied: Tally, column: str) -> pd.DataFrame:
    """Give the corpus-level WER and CER of each variant in each class of one grouping column.

    The rate of one trial is the sum of errors over the sum of reference words; the table has the mean of these over the
    finished trials. A class without reference words has no rate (NaN).

    Args:
        results: one row per requested trial.
        tallied: their scores, with the column.
        column: whose classes are shown.

    Returns:
        variant, value (the class), n_seeds, n_utterances and reference_words (per trial), wer, wer_sd (divisor n - 1), cer;
        variants in the order of the study, classes sorted.

    Raises:
        ValueError: the column was not kept in `tallied`.
    """
    classes = tallied.classes(column)
    rows = []
    for variant in results["variant"].unique() if len(tallied.trials) else []:
        trials = np.flatnonzero(tallied.trials["variant"] == variant)
        for value in classes.cat.categories:
            place = np.ix_(trials, np.flatnonzero(classes == value))
            row = _rates(
                *(
                    table[place].astype(float)
                    for table in (tallied.errors, tallied.words, tallied.char_errors, tallied.chars)
                )
            )
            rows.append({"variant": variant, "value": value, **row})
    names = ["variant", "value", "n_seeds", "n_utterances", "reference_words", "wer", "wer_sd", "cer"]
    table = pd.DataFrame(rows, columns=names)
    return table[table["n_seeds"] > 0].reset_index(drop=True)


def _rates(errors: np.ndarray, words: np.ndarray, char_errors: np.ndarray, chars: np.ndarray) -> dict[str, Any]:
    """Return the rates of a class from its counts, [T, U] each, over the trials that score any of it."""
    scored = np.isfinite(words).any(axis=1)
    kept = [np.nansum(table[scored], axis=1) for table in (errors, words, char_errors, chars)]
    wer, cer = (
        pd.Series(part / np.where(whole > 0, whole, np.nan)) for part, whole in zip(kept[::2], kept[1::2], strict=True)
    )
    return {
        "n_seeds": int(scored.sum()),
        "n_utterances": int(np.isfinite(words).sum(axis=1).max(initial=0)),
        "reference_words": float(kept[1].max(initial=0)),
        "wer": wer.mean(),
        "wer_sd": wer.std(),
        "cer": cer.mean(),
    }


def _over_own_seeds(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Describe the WER of a variant over its own seeds, with the 95 % interval of Student's t as far as a WER can be."""
    number, mean, sd = int(row["n_values"]), row["mean"], row["sd"]
    half = float(distributions.t.ppf(1 - LEVEL / 2, number - 1)) * sd / math.sqrt(number) if number > 1 else math.nan
    # A rate is not negative, and above 1 only where insertions make it so; of few seeds the interval may be both.
    low, high = np.clip([mean - half, mean + half], 0.0, max(1.0, row["max"]))
    return {
        "variant": row["variant"], "n_requested": row["n_requested"], "n_done": row["n_done"], "n_seeds": number,
        "mean_wer": mean, "seed_sd": sd, "seed_low": float(low), "seed_high": float(high),
    }  # fmt: skip


def _paired(pairs: Pairs, margin: float, noise: NoiseFloor | None, rounds: int) -> dict[str, Any]:
    found = compare(pairs, rounds)
    head = {**_sizes(pairs), "margin": margin}
    if found is None:
        return {**head, "caution": caution(pairs, None, math.nan)}
    effect, p_seeds = over_seeds(found.difference_K)
    z, p = mapsswe((pairs.errors_KU - pairs.base_errors_KU).mean(axis=0))
    tost = equivalence(found.mean, found.spread, margin) if pairs.speakers_known else math.nan
    deviation = float(found.difference_K.std(ddof=1)) if pairs.num_seeds > 1 else math.nan
    base_wer = float(found.base_wer_K.mean())
    return {
        **head, **_estimate(pairs, found),
        "se": found.spread.se, "df": found.spread.df, "p_seeds": p_seeds, "mapsswe_z": z, "mapsswe_p": p,
        "mcnemar_p": mcnemar(pairs.errors_KU > 0, pairs.base_errors_KU > 0) if pairs.single_words else math.nan,
        "relative_reduction": -found.mean / base_wer if base_wer > 0 else math.nan, "effect_size": effect,
        "tost_p": tost, "equivalent": tost < LEVEL and _generalises(pairs), "within_noise": noise is not None and noise.hides(found.mean),
        "seeds_needed": seeds_needed(deviation, found.mean), "seeds_needed_for_margin": seeds_needed(deviation, margin),
        "caution": caution(pairs, found, p_seeds),
    }  # fmt: skip


def _generalises(pairs: Pairs) -> bool:
    """Tell whether there are seeds and speakers enough to speak of others: with fewer seeds the spread is over speakers alone."""
    return pairs.num_seeds >= MIN_SEEDS and pairs.num_speakers >= MIN_SPEAKERS


def _in_group(pairs: Pairs, floor: float, rounds: int) -> dict[str, Any]:
    found = compare(pairs, rounds)
    words = float(pairs.words_KU.sum(axis=1).max(initial=0))
    told = {**_sizes(pairs), "reference_words": words, "noise_floor": floor, "caution": caution(pairs, found, math.nan)}
    if found is None:
        return {**told, "covers": "", "within_noise": False}
    told["within_noise"] = hidden(found.mean, floor)
    return {**told, **_estimate(pairs, found), "wer": found.wer_K.mean(), "baseline_wer": found.base_wer_K.mean()}


def _sizes(pairs: Pairs) -> dict[str, float]:
    speakers = pairs.num_speakers if pairs.speakers_known else math.nan
    return {"n_paired_seeds": pairs.num_seeds, "n_speakers": speakers, "n_utterances": pairs.num_utterances}


def _estimate(pairs: Pairs, found: Difference) -> dict[str, Any]:
    of_speakers = sign_flip(found.own_P) if pairs.num_speakers > 1 else math.nan
    of_interval = two_sided(found.mean, found.spread)
    return {
        "difference": found.mean, "low": found.low, "high": found.high, "covers": found.covers,
        "p_interval": of_interval, "p_sign_flip": of_speakers, "smallest_p": smallest_p(pairs.num_speakers),
        # Utterances of one speaker resemble each other: taken as independent they find too much.
        "p": claimed(of_speakers, of_interval) if pairs.speakers_known else math.nan,
    }  # fmt: skip
