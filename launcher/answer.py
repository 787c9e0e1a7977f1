"""Answer the question of a study in one sentence, and say what that sentence does not show.

Pure: summaries in, plain text out. Rates are fractions, shown as per cent with one decimal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from launcher.noise import NoiseFloor
from launcher.significance import LEVEL
from launcher.stats import MIN_SEEDS, MIN_SPEAKERS, summary_by_variant

NOT_MEASURED = "\N{EN DASH}"


@dataclass(frozen=True)
class Answer:
    """The sentence at the head of a report, the variant it names, and the cautions beneath it."""

    headline: str
    best: str | None = None
    cautions: tuple[str, ...] = ()


def percent(fraction: float, digits: int = 1) -> str:
    """Write a fraction as per cent; what was not measured (missing, infinite) is a dash."""
    return f"{fraction * 100:.{digits}f} %" if np.isfinite(fraction) else NOT_MEASURED


def points(difference: float) -> str:
    """Write a difference of two rates in percentage points, always with its sign."""
    if not np.isfinite(difference):
        return NOT_MEASURED
    text = f"{difference * 100:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def interval(low: float, high: float) -> str:
    """Write an interval in percentage points."""
    return f"[{points(low)}, {points(high)}]"


def count(number: int, noun: str) -> str:
    """Write a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def within_margin(row: Mapping[Any, Any], shown: str) -> str:
    """Say of a comparison whether the difference is shown to be within the margin; what the test says of few seeds is of them alone."""
    if row["equivalent"]:
        return shown
    return "too few seeds or speakers" if row["tost_p"] < LEVEL else "not shown"


def answer(
    results: pd.DataFrame, summary: pd.DataFrame, compared: pd.DataFrame, baseline: str | None,
    noise: NoiseFloor | None = None,
) -> Answer:  # fmt: skip
    """Compose the answer from what has finished so far.

    Args:
        results: one row per requested trial.
        summary: `launcher.stats.summary_by_variant` of WER.
        compared: `launcher.comparisons.comparisons`.
        baseline: the variant that `compared` compares with.
        noise: how far equal runs differ, if that was measured.
    """
    if results.empty:
        return Answer("There is no trial in this study yet, so there is no answer.")
    states = results["status"].value_counts()
    if not states.get("done", 0):
        so_far = ", ".join(f"{number} {state}" for state, number in states.items())
        return Answer(f"No trial has finished ({so_far}), so there is no answer yet.")
    measured = summary[summary["n_values"] > 0].sort_values("mean", kind="stable")
    if measured.empty:
        finished = count(int(states["done"]), "trial")
        return Answer(f"{finished} finished, but none has a word error rate, so there is no answer.")
    best = measured.iloc[0]
    open_trials = int(states.drop(["done", "failed", "pruned"], errors="ignore").sum())
    lead = f"So far, with {count(open_trials, 'trial')} still to finish: lowest" if open_trials else "Lowest"
    name = f"the baseline {best['variant']}" if best["variant"] == baseline else best["variant"]
    headline = f"{lead} WER: {name}, {percent(best['mean'])} ({_over(best)})"
    other, comparison = _comparison(measured, compared, baseline)
    cautions = (*_pruned(results), *_cautions(summary, other), *_unmeasured(results))
    if noise is not None and other is not None and noise.hides(other["difference"]):
        cautions = (
            f"This difference is within the noise floor: {noise.sentence().removeprefix('noise floor: ')}.",
            *cautions,
        )
    return Answer(headline + comparison + _limits(best, other) + ".", str(best["variant"]), cautions)


def _over(row: pd.Series) -> str:
    return "one seed" if row["n_values"] == 1 else f"mean of {row['n_values']} seeds"


def _comparison(measured: pd.DataFrame, compared: pd.DataFrame, baseline: str | None) -> tuple[pd.Series | None, str]:
    """Compare the best variant with the baseline, or the runner-up with the baseline when that is best."""
    best = measured.iloc[0]["variant"]
    if len(measured) == 1:
        return None, "; no other variant has a WER to compare it with"
    subject = measured.iloc[1]["variant"] if best == baseline else best
    rows = compared[compared["variant"] == subject]
    if rows.empty or not np.isfinite(rows.iloc[0]["difference"]):
        return None, f"; there is nothing to pair {subject} with the baseline {baseline} on"
    row = rows.iloc[0]
    whose = f"of the next, {subject}," if best == baseline else "to"
    whose = f"difference {whose} to it" if best == baseline else f"difference to the baseline {baseline}"
    text = f"; {whose}: {points(row['difference'])} points {interval(row['low'], row['high'])}"
    return row, text + _verdict(row)


def _verdict(row: pd.Series) -> str:
    """Say whether there is a difference: by p after Holm, as the tables do; by the interval where nothing can be tested."""
    p = row["p_holm"]
    if np.isfinite(p):
        told = f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'} by Holm's method"
        if p < LEVEL:
            return f", {told}"
        doubt = f", not shown to be other than zero ({told})"
    elif row["low"] > 0 or row["high"] < 0:
        return ""
    else:
        doubt = ", an interval that includes zero"
    return f"{doubt}, yet within {points(row['margin']).lstrip('+')} points" if row["equivalent"] else doubt


def _limits(best: pd.Series, compared: pd.Series | None) -> str:
    """End the sentence with what is too few to generalise from."""
    num_seeds = int(best["n_values"] if compared is None else compared["n_paired_seeds"])
    few = [count(num_seeds, "seed")] if num_seeds < MIN_SEEDS else []
    if compared is not None and np.isnan(compared["n_speakers"]):
        few.append("speakers that are not known")
    elif compared is not None and compared["n_speakers"] < MIN_SPEAKERS:
        few.append(count(int(compared["n_speakers"]), "speaker"))
    return f"; with {' and '.join(few)} this cannot be claimed to generalise" if few else ""


def _pruned(results: pd.DataFrame) -> tuple[str, ...]:
    """Say that early stopping took trials away, and not at random."""
    pruned = results.loc[results["status"] == "pruned", "variant"]
    if pruned.empty:
        return ()
    requested = Counter(results["variant"])
    of = ", ".join(f"{name} ({number} of {requested[name]})" for name, number in Counter(pruned).items())
    return (
        f"Early stopping pruned {count(len(pruned), 'trial')}: {of}. Those that are left were picked for their loss, so "
        "their mean WER tends to be too low; without --early-stopping the same command trains the others to the end.",
    )


def _unmeasured(results: pd.DataFrame) -> tuple[str, ...]:
    """Say which finished trials a mean leaves out, since their value is not finite: it looks better than they are."""
    found = []
    for metric, name in (("cer", "CER"), ("nll_per_label", "NLL per label")):
        summary = summary_by_variant(results, metric)
        short = summary[summary["n_values"] < summary["n_done"]]
        if len(short) and summary["n_values"].any():
            lacking = ", ".join(f"{row.variant} ({row.n_values} of {row.n_done})" for row in short.itertuples())
            found.append(f"Not every finished trial has a finite {name}: {lacking}. The means are those of the others.")
    return tuple(found)


def _cautions(summary: pd.DataFrame, compared: pd.Series | None) -> tuple[str, ...]:
    """List what a reader has to know before using the sentence."""
    found = [str(compared["caution"])] if compared is not None and compared["caution"] else []
    if compared is not None and compared["covers"]:
        found.append(f"The interval and p say what to expect of {compared['covers']}.")
    short = summary[summary["n_values"] < summary["n_requested"]]
    if len(short):
        lacking = ", ".join(f"{row.variant} ({row.n_values} of {row.n_requested})" for row in short.itertuples())
        found.append(f"Not every seed has a WER: {lacking}. Means over different seeds are not comparable.")
    if len(summary) > 2:
        found.append(
            f"The lowest of {len(summary)} variants was picked after looking; intervals are not corrected for that, "
            "p by Holm's method is."
        )
    return tuple(found)
