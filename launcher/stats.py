"""Say what the tables let one claim: spread over seeds, paired differences, error rates of groups.

Pure: data frames in, data frames out. WER and CER are fractions, may exceed 1, and lower is better.
Shapes: U utterances, K paired seeds, P speakers, R bootstrap rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

NUM_ROUNDS = 2000
BOOTSTRAP_SEED = 20260
MIN_SEEDS = 5  # below these two, percentile intervals over clusters are known to be too narrow
MIN_SPEAKERS = 8
NO_GROUP = "(not given)"

_BLOCK_CELLS = 4_000_000  # bootstrap weights held at once: 32 MB of float64
_PAIRED_COLUMNS = [
    "variant", "baseline", "n_seeds", "n_speakers", "n_utterances", "difference", "low", "high", "caution"
]  # fmt: skip


def with_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the frame with every one of `columns`; what it did not have is missing (NaN) in all rows."""
    absent = [name for name in columns if name not in frame.columns]
    # Objects, because a join of names with a column of floats is refused even when that column is empty.
    return frame.reindex(columns=[*frame.columns, *absent]).astype(dict.fromkeys(absent, object))


def first_runs(results: pd.DataFrame) -> pd.DataFrame:
    """Return the trials without further runs of the same cell with the same seed, which are no further seeds."""
    return results[~is_repeat(results)] if "repeat" in results.columns else results


def is_repeat(results: pd.DataFrame) -> pd.Series:
    """Tell of each trial whether it is a further run of another one."""
    return pd.to_numeric(with_columns(results, ["repeat"])["repeat"]).fillna(0) > 0


def of_first_runs(frame: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that are of no repeat; the table itself, which may be large, when there is none."""
    repeats = results.loc[is_repeat(results), "trial_id"] if "trial_id" in results.columns else pd.Series(dtype=object)
    return frame[~frame["trial_id"].isin(repeats)] if len(repeats) and "trial_id" in frame.columns else frame


def finite(values: pd.Series) -> pd.Series:
    """Return the values as floats without the missing and infinite ones."""
    numbers = values.astype(float)
    return numbers[np.isfinite(numbers)]


def pick_baseline(results: pd.DataFrame, baseline: str | None) -> str | None:
    """Return the variant that others are compared with: the named one, or the first of the study.

    Raises:
        ValueError: the named variant is not in the table.
    """
    variants = list(results["variant"].unique()) if "variant" in results else []
    if baseline is None:
        return variants[0] if variants else None
    if baseline not in variants:
        raise ValueError(f"baseline {baseline!r} is not a variant of this study; choose one of: {variants}")
    return baseline


def summary_by_variant(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Summarise one metric over the finished trials of each variant, in the order of the study.

    Args:
        results: one row per requested trial, with variant, status and the metric.
        metric: a numeric column of `results`; a column that no trial wrote counts as missing everywhere.

    Returns:
        variant, n_requested, n_done, n_values (finished trials with a finite value), mean, sd
        (divisor n - 1; NaN with one value), min, max, in the unit of the metric.
    """
    table = with_columns(first_runs(results), ["variant", "status", metric])
    rows = []
    for variant, trials in table.groupby("variant", sort=False):
        done = trials[trials["status"] == "done"]
        values = finite(done[metric])
        rows.append(
            {
                "variant": variant,
                "n_requested": len(trials),
                "n_done": len(done),
                "n_values": len(values),
                "mean": values.mean(),
                "sd": values.std(ddof=1),
                "min": values.min(),
                "max": values.max(),
            }
        )
    names = ["variant", "n_requested", "n_done", "n_values", "mean", "sd", "min", "max"]
    return pd.DataFrame(rows, columns=names)


def final_utterances(utterances: pd.DataFrame, results: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return the final-phase utterances of finished trials, with their counts.

    Args:
        utterances: the utterance table; may be empty, even of columns.
        results: the trials; gives variant and seed.
        columns: further columns of `utterances` to keep.

    Returns:
        trial_id, variant, pair (what is paired between variants: the seed, and which trial of it where an axis is
        hidden), the columns asked for, errors and words; one row per trial and utterance. Repeats are left out.
    """
    names = ["trial_id", *columns]
    counts = ["substitutions", "deletions", "insertions", "hits"]
    table = with_columns(utterances, [*names, *counts, "phase"])
    trials = with_columns(first_runs(results), ["trial_id", "variant", "status", "seed"])
    trials = trials[trials["status"] == "done"]
    place = trials.groupby(["variant", "seed"], dropna=False).cumcount()
    trials = trials.assign(pair=trials["seed"].astype(str) + "/" + place.astype(str))
    final = (table["phase"] == "final") & table["trial_id"].isin(trials["trial_id"])
    rows = table.loc[final, [*names, *counts]]
    common = rows["substitutions"].astype(float) + rows["deletions"].astype(float)
    rows = rows.assign(errors=common + rows["insertions"].astype(float), words=common + rows["hits"].astype(float))
    merged = rows.merge(trials[["trial_id", "variant", "pair"]], on="trial_id", how="left")
    return merged[["trial_id", "variant", "pair", *columns, "errors", "words"]]


def group_table(utterances: pd.DataFrame, results: pd.DataFrame, column: str) -> pd.DataFrame:
    """Give the corpus-level WER and CER of each variant in each class of one grouping column.

    The rate of one trial is the sum of errors over the sum of reference words; the table has the mean
    of these over the finished trials. A class without reference words has no rate (NaN).

    Args:
        utterances: the utterance table.
        results: the trials.
        column: a grouping column of `utterances`; rows without a value are the class "(not given)".

    Returns:
        variant, value (the class), n_seeds, n_utterances and reference_words (per trial), wer,
        wer_sd (divisor n - 1), cer; variants in the order of the study, classes sorted.

    Raises:
        ValueError: the utterance table has rows but not this column.
    """
    if len(utterances) and column not in utterances.columns:
        raise ValueError(
            f"cannot group by {column!r}: the utterance table has only the columns {list(utterances.columns)}"
        )
    rows = final_utterances(utterances, results, [column, "char_errors", "chars"])
    rows["value"] = rows[column].astype(object).where(rows[column].notna(), NO_GROUP).astype(str)
    rows[["char_errors", "chars"]] = rows[["char_errors", "chars"]].astype(float)
    by_trial = rows.groupby(["variant", "trial_id", "value"], sort=False)
    trials = by_trial[["errors", "words", "char_errors", "chars"]].sum()
    trials["size"] = by_trial.size()
    trials["wer"] = trials["errors"] / trials["words"].where(trials["words"] > 0)
    trials["cer"] = trials["char_errors"] / trials["chars"].where(trials["chars"] > 0)
    cells = trials.groupby(["variant", "value"], sort=False)
    table = cells.agg(
        n_seeds=("size", "count"),
        n_utterances=("size", "max"),
        reference_words=("words", "max"),
        wer=("wer", "mean"),
        wer_sd=("wer", "std"),
        cer=("cer", "mean"),
    ).reset_index()
    order = {name: rank for rank, name in enumerate(with_columns(results, ["variant"])["variant"].unique())}
    return table.sort_values(
        ["variant", "value"], key=lambda keys: keys.map(order) if keys.name == "variant" else keys
    ).reset_index(drop=True)


def paired_to_baseline(
    results: pd.DataFrame, utterances: pd.DataFrame, baseline_variant: str | None = None
) -> pd.DataFrame:
    """Compare every variant with the baseline on the same seeds and the same utterances.

    The difference is corpus WER of the variant minus that of the baseline, averaged over the seeds that
    both finished: below zero, the variant is better. The 95 % interval is a percentile bootstrap that
    draws seeds, then speakers, then utterances of the drawn speakers. Every seed is judged on the same
    speakers, so a round uses one draw of speakers for all its seeds; fresh speakers per seed would average
    the speakers' variance away. Reference: Liu & Peng 2020, https://arxiv.org/abs/1912.09508

    Args:
        results: the trials.
        utterances: the utterance table; only final-phase rows are used.
        baseline_variant: None means the first variant of the study.

    Returns:
        One row per other variant: variant, baseline, n_seeds, n_speakers, n_utterances (paired),
        difference, low, high (fractions; NaN where nothing is paired), caution (plain text, may be "").

    Raises:
        ValueError: the baseline is not a variant.
    """
    baseline = pick_baseline(results, baseline_variant)
    if baseline is None:
        return pd.DataFrame(columns=_PAIRED_COLUMNS)
    rows = final_utterances(utterances, results, ["speaker", "utt_id"])
    rows["speaker"] = rows["speaker"].astype(object).where(rows["speaker"].notna(), NO_GROUP).astype(str)
    of_baseline = rows[rows["variant"] == baseline]
    others = [name for name in results["variant"].unique() if name != baseline]
    compared = [_compare(rows[rows["variant"] == name], of_baseline) for name in others]
    heads = ({"variant": name, "baseline": baseline} for name in others)
    return pd.DataFrame([{**head, **row} for head, row in zip(heads, compared, strict=True)], columns=_PAIRED_COLUMNS)


def _compare(variant: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, Any]:
    """Compare the utterances of two variants: counts of what is paired, difference, interval, caution."""
    seeds = sorted(set(variant["pair"]) & set(baseline["pair"]))
    wide = [_wide(rows, seeds) for rows in (variant, baseline)]
    shared = wide[0].index.intersection(wide[1].index)
    counts_U4K = np.concatenate([table.loc[shared].to_numpy() for table in wide], axis=1)
    speakers = shared.get_level_values("speaker")
    found = {"n_seeds": len(seeds), "n_speakers": speakers.nunique(), "n_utterances": len(shared)}
    difference, low, high = np.nan, np.nan, np.nan
    if seeds and len(shared):
        difference = float(_rate_differences(counts_U4K.sum(axis=0)[None], len(seeds)).mean())
        rounds_R = _bootstrap(counts_U4K, pd.factorize(speakers)[0], len(seeds))
        rounds_R = rounds_R[np.isfinite(rounds_R)]  # a round may draw no reference word at all
        if len(rounds_R):
            low, high = (float(bound) for bound in np.quantile(rounds_R, [0.025, 0.975]))
    num_dropped = max(len(table) for table in wide) - len(shared)
    caution = _caution(found["n_seeds"], found["n_speakers"], num_dropped, difference)
    return {**found, "difference": difference, "low": low, "high": high, "caution": caution}


def _wide(rows: pd.DataFrame, seeds: list[str]) -> pd.DataFrame:
    """Lay errors and then words of K seeds side by side, [U, 2K]; an utterance lacking a seed is left out."""
    rows = rows[rows["pair"].isin(seeds)]
    counts = rows.groupby(["speaker", "utt_id", "pair"])[["errors", "words"]].sum(min_count=1).unstack("pair")
    wanted = pd.MultiIndex.from_product([["errors", "words"], seeds], names=counts.columns.names)
    return pd.DataFrame(counts).reindex(columns=wanted).dropna()


def _rate_differences(totals_R4K: np.ndarray, num_seeds: int) -> np.ndarray:
    """Return WER of the variant minus WER of the baseline for each seed, [R, K]; NaN without words."""
    errors_RK, words_RK, base_errors_RK, base_words_RK = np.split(totals_R4K, 4, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return errors_RK / words_RK - base_errors_RK / base_words_RK


def _bootstrap(counts_U4K: np.ndarray, speaker_U: np.ndarray, num_seeds: int) -> np.ndarray:
    """Return the difference of WER in each of R rounds that draw seeds, speakers and utterances.

    Utterances of a speaker with equal counts are interchangeable, so they are drawn as one cell of a
    multinomial: exact, and far cheaper for corpora of single words.
    """
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    num_speakers = int(speaker_U.max()) + 1
    drawn_RP = rng.multinomial(num_speakers, np.full(num_speakers, 1 / num_speakers), size=NUM_ROUNDS)
    totals_R4K = np.zeros((NUM_ROUNDS, counts_U4K.shape[1]))
    for speaker in range(num_speakers):
        cells, sizes = np.unique(counts_U4K[speaker_U == speaker], axis=0, return_counts=True)
        block = max(1, _BLOCK_CELLS // len(cells))
        for start in range(0, NUM_ROUNDS, block):
            draws = drawn_RP[start : start + block, speaker] * sizes.sum()
            weights = rng.multinomial(draws, sizes / sizes.sum())
            totals_R4K[start : start + block] += weights.astype(float) @ cells
    drawn_RK = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=NUM_ROUNDS)
    return (drawn_RK * _rate_differences(totals_R4K, num_seeds)).sum(axis=1) / num_seeds


def _caution(num_seeds: int, num_speakers: int, num_dropped: int, difference: float) -> str:
    """Say in plain words what a comparison of this size does not show; empty if there is nothing to say."""
    if num_seeds == 0:
        return "No seed finished in both variants with utterances to compare: there is no difference."
    parts = []
    if np.isnan(difference):
        parts.append("There are no reference words on both sides: there is no difference to report.")
    if num_seeds < MIN_SEEDS:
        parts.append(
            f"{num_seeds} paired seed{'s' * (num_seeds != 1)} (fewer than {MIN_SEEDS}): "
            "it cannot be claimed that the difference holds for other seeds."
        )
    if num_speakers < MIN_SPEAKERS:
        parts.append(
            f"{num_speakers} speaker{'s' * (num_speakers != 1)} (fewer than {MIN_SPEAKERS}): "
            "it cannot be claimed that it holds for other speakers, and the interval is likely too narrow."
        )
    if num_dropped:
        were = "utterance was" if num_dropped == 1 else "utterances were"
        parts.append(f"{num_dropped} {were} not scored by every seed of both and left out.")
    return " ".join(parts)
