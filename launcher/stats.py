"""Summarise the tables of a study: what counts as a seed, and the spread over seeds.

Pure: data frames in, data frames out. WER and CER are fractions, may exceed 1, and lower is better. What compares variants
is in `launcher.comparisons`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

MIN_SEEDS = 5  # below these two, little can be said of other seeds and of other speakers
MIN_SPEAKERS = 8
NO_GROUP = "(not given)"


def with_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the frame with every one of `columns`; what it did not have is missing (NaN) in all rows."""
    absent = [name for name in columns if name not in frame.columns]
    # Objects, because a join of names with a column of floats is refused even when that column is empty.
    return frame.reindex(columns=[*frame.columns, *absent]).astype(dict.fromkeys(absent, object))


def named(values: pd.Series) -> pd.Series:
    """Return the values as text, what is missing as a class of its own."""
    code_N, distinct = pd.factorize(values)
    # The code of what is missing is -1, the last.
    names = np.array([*map(str, distinct), NO_GROUP], dtype=object)
    return pd.Series(names[code_N], index=values.index, dtype=object)


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
