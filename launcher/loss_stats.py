"""Say what losses of utterances show: how groups differ, what length has to do with it, what reductions make of it.

Pure: data frames in, data frames out. Losses are as the source gives them, in nats or in nats per label.
N utterances, R bootstrap rounds, G groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from launcher.answer import count
from launcher.loss_files import Losses
from launcher.loss_regression import regress
from launcher.resampling import ROUNDS, Resampling, bounds, pearson_rounds, resampling, spearman_rounds
from launcher.speakers import is_nameless
from launcher.stats import MIN_SPEAKERS, NO_GROUP

LENGTH_ONLY = {"sum": 0.0, "power(alpha=0.25)": 0.25, "power(alpha=0.5)": 0.5, "power(alpha=0.75)": 0.75, "mean": 1.0}
"""Reductions that weigh an utterance by its labels U alone, as U^-alpha: name -> alpha."""

ALL = "(all)"
_TESTS = ("welch_p", "mann_whitney_p")


@dataclass(frozen=True)
class Analysis:
    """What losses show.

    Attributes:
        groups: one row per group: utterances, mean with its interval, median, shares, loss per label.
        pairs: one row per pair of groups: difference of means with its interval, tests, effect sizes.
        correlations: loss with length, over all and within each group.
        regression: loss on length and group; empty where it cannot be computed.
        shares: one row per reduction and group: what it would make of these losses.
        method: how the intervals were made.
        notes: what a reader has to know, in plain words.
    """

    groups: pd.DataFrame
    pairs: pd.DataFrame
    correlations: pd.DataFrame
    regression: pd.DataFrame
    shares: pd.DataFrame
    method: str
    notes: tuple[str, ...]

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return the tables by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: table for name, table in found.items() if isinstance(table, pd.DataFrame)}


def analyse(losses: Losses, *, correlation_intervals: bool = True) -> Analysis:
    """Compare the groups of one set of losses.

    Args:
        losses: at least one utterance.
        correlation_intervals: whether correlations get theirs, the only costly part over many utterances.
    """
    losses = _of_known_speakers(losses)
    draws = resampling(losses.frame)
    regression, notes = regress(losses, clustered=draws.unit == "speakers")
    unit = "speakers are drawn with all their utterances" if draws.unit == "speakers" else "utterances are drawn"
    return Analysis(
        groups=group_table(losses, draws),
        pairs=pair_table(losses, draws),
        correlations=_correlations(losses, draws if correlation_intervals else None),
        regression=regression,
        shares=length_shares(losses),
        method=f"Intervals are 95 % percentile bootstrap intervals, {ROUNDS:,} rounds; {unit}.",
        notes=(*losses.notes, *_cautions(losses, draws), *notes),
    )


def stack(analyses: Mapping[str, Analysis], column: str, *, one_family: bool) -> Analysis:
    """Put the tables of several analyses under each other.

    Args:
        analyses: name -> analysis, at least one.
        column: the column that takes the name.
        one_family: whether p-values are corrected over the whole table; else over each part as before.
    """
    parts = {name: analysis.frames() for name, analysis in analyses.items()}
    joined: dict[str, pd.DataFrame] = {}
    for table in next(iter(parts.values())):
        frames = [(name, frames[table]) for name, frames in parts.items() if len(frames[table])]
        marked = [frame.assign(**{column: name})[[column, *frame.columns]] for name, frame in frames]
        joined[table] = pd.concat(marked, ignore_index=True) if marked else pd.DataFrame()
    if one_family:
        joined["pairs"] = _with_holm(joined["pairs"])
    notes = dict.fromkeys(note for analysis in analyses.values() for note in analysis.notes)
    return Analysis(**joined, method=next(iter(analyses.values())).method, notes=tuple(notes))


def group_table(losses: Losses, draws: Resampling) -> pd.DataFrame:
    """Describe each group.

    Returns:
        group, utterances, speakers (where known), mean, low, high, median, sd (divisor n - 1), shares of utterances,
        labels and losses (as given), loss_per_label (nats: sum of losses / sum of labels).
    """
    frame, mean_RG = losses.frame, _mean_rounds(losses, draws)
    totals = [max(frame[name].sum(), np.finfo(float).tiny) for name in ("length", "loss")]
    rows = []
    for rank, name in enumerate(frame["group"].cat.categories):
        member_N = (frame["group"] == name).to_numpy()
        loss, length = frame.loc[member_N, "loss"], frame.loc[member_N, "length"].sum()
        low, high = bounds(mean_RG[:, rank])
        rows.append(
            {
                "group": name,
                "utterances": len(loss),
                **({"speakers": _known(frame.loc[member_N, "speaker"]).nunique()} if "speaker" in frame else {}),
                "mean": loss.mean(),
                "low": low,
                "high": high,
                "median": loss.median(),
                "sd": loss.std(ddof=1),
                "utterance_share": len(loss) / len(frame),
                "label_share": length / totals[0],
                "loss_share": loss.sum() / totals[1],
                "loss_per_label": losses.nats_N[member_N].sum() / length if length else np.nan,
            }
        )
    return pd.DataFrame(rows)


def pair_table(losses: Losses, draws: Resampling) -> pd.DataFrame:
    """Compare every pair of groups; positive differences and effects mean that the first has the larger losses.

    Returns:
        first, second, difference of means, low, high, welch_t, welch_df, welch_p, mann_whitney_u (of the first),
        mann_whitney_p, the p-values by Holm's method over the table, cliffs_delta, hedges_g. Tests and effect sizes
        take utterances as independent. Empty with one group.
    """
    frame, mean_RG = losses.frame, _mean_rounds(losses, draws)
    names = list(frame["group"].cat.categories)
    loss_of = {name: frame.loc[(frame["group"] == name).to_numpy(), "loss"].to_numpy() for name in names}
    rows = []
    for (i, first), (j, second) in itertools.combinations(enumerate(names), 2):
        low, high = bounds(mean_RG[:, i] - mean_RG[:, j])
        rows.append(
            {"first": first, "second": second, "low": low, "high": high, **_test(loss_of[first], loss_of[second])}
        )
    if not rows:
        return pd.DataFrame()
    order = ["first", "second", "difference", "low", "high"]
    return _with_holm(pd.DataFrame(rows)[[*order, *(name for name in rows[0] if name not in order)]])


def length_shares(losses: Losses) -> pd.DataFrame:
    """Give each group's share of the loss under each reduction that weighs by length alone: w = U^-alpha.

    Returns:
        reduction, alpha, group, utterance_share, loss_share, factor (loss share / utterance share).
    """
    frame, rows = losses.frame, []
    for reduction, alpha in LENGTH_ONLY.items():
        weighted = pd.Series(losses.nats_N * losses.labels_N**-alpha).groupby(frame["group"], observed=False)
        loss_G, utterances_G = weighted.sum().to_numpy(), weighted.size().to_numpy() / len(frame)
        share_G = loss_G / max(loss_G.sum(), np.finfo(float).tiny)
        head = {"reduction": reduction, "alpha": alpha}
        for name, utterances, share in zip(frame["group"].cat.categories, utterances_G, share_G, strict=True):
            row = {"utterance_share": utterances, "loss_share": share, "factor": share / utterances}
            rows.append({**head, "group": name, **row})
    return pd.DataFrame(rows)


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values for being many by Holm's step-down method; NaN stays and is not counted.

    Reference: Holm 1979, https://www.jstor.org/stable/4615733
    """
    corrected, known = np.full(len(p), np.nan), np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def _with_holm(pairs: pd.DataFrame) -> pd.DataFrame:
    if pairs.empty:
        return pairs
    return pairs.assign(**{f"{name}_holm": holm(pairs[name].to_numpy(dtype=float)) for name in _TESTS})


def _mean_rounds(losses: Losses, draws: Resampling) -> np.ndarray:
    """Return the mean loss of each group in each round, [R, G]; NaN for a group of one drawn unit, which never varies."""
    group, loss_N = losses.frame["group"].cat, losses.frame["loss"].to_numpy(dtype=float)
    code_N, num_groups = group.codes.to_numpy().astype(int), len(group.categories)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_RG = draws.sums_by_group(loss_N, code_N, num_groups) / draws.sums_by_group(
            np.ones_like(loss_N), code_N, num_groups
        )
    single = [draws.num_units(code_N == code) < 2 for code in range(num_groups)]
    return np.where(single, np.nan, mean_RG)


def _test(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Test and measure the difference of two samples; NaN where one has too few values."""
    found = dict.fromkeys(("welch_t", "welch_df", *_TESTS, "mann_whitney_u", "cliffs_delta", "hedges_g"), np.nan)
    if min(len(first), len(second)) > 1 and max(np.ptp(first), np.ptp(second)) > 0:
        found |= dict(zip(("welch_t", "welch_df", "welch_p"), welch(first, second), strict=True))
        found["hedges_g"] = hedges_g(first, second)
    ranked: Any = stats.mannwhitneyu(first, second, alternative="two-sided")
    found |= {"mann_whitney_u": ranked.statistic, "mann_whitney_p": ranked.pvalue}
    found["cliffs_delta"] = 2 * ranked.statistic / (len(first) * len(second)) - 1
    names = ("welch_t", "welch_df", "welch_p", "mann_whitney_u", "mann_whitney_p", "cliffs_delta", "hedges_g")
    return {"difference": first.mean() - second.mean(), **{name: float(found[name]) for name in names}}


def welch(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Return t, degrees of freedom and the two-sided p of Welch's test; at least one sample varies.

    Reference: Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28
    """
    spread = [sample.var(ddof=1) / len(sample) for sample in (first, second)]
    t = (first.mean() - second.mean()) / np.sqrt(sum(spread))
    freedom = sum(spread) ** 2 / sum(
        part**2 / (len(sample) - 1) for part, sample in zip(spread, (first, second), strict=True)
    )
    return float(t), float(freedom), float(2 * stats.t.sf(abs(t), freedom))


def hedges_g(first: np.ndarray, second: np.ndarray) -> float:
    """Return the difference of means in pooled standard deviations, without the bias of small samples.

    Reference: Hedges 1981, https://doi.org/10.3102/10769986006002107
    """
    freedom = len(first) + len(second) - 2
    squares = first.var() * len(first) + second.var() * len(second)
    exact = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2) - np.log(freedom / 2) / 2
    return float((first.mean() - second.mean()) / np.sqrt(squares / freedom) * np.exp(exact))


def _correlations(losses: Losses, draws: Resampling | None) -> pd.DataFrame:
    """Correlate loss with length over all and within each group; NaN where one of them does not vary."""
    frame = losses.frame
    loss_N, length_N = frame["loss"].to_numpy(dtype=float), frame["length"].to_numpy(dtype=float)
    members = {ALL: np.ones(len(frame), dtype=bool)}
    members |= {name: (frame["group"] == name).to_numpy() for name in frame["group"].cat.categories}
    rows = []
    for name, member_N in members.items():
        row: dict[str, Any] = {"within": name, "utterances": int(member_N.sum())}
        for kind, function, rounds in (
            ("pearson", stats.pearsonr, pearson_rounds),
            ("spearman", stats.spearmanr, spearman_rounds),
        ):
            values = np.full(3, np.nan)
            if min(np.ptp(loss_N[member_N]), np.ptp(length_N[member_N])) > 0 and member_N.sum() > 2:
                found: Any = function(loss_N[member_N], length_N[member_N])
                values[0] = found.statistic
                if draws is not None and draws.num_units(member_N) > 1:
                    values[1:] = bounds(rounds(draws, loss_N, length_N, member_N))
            row |= dict(zip((kind, f"{kind}_low", f"{kind}_high"), values.tolist(), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def _of_known_speakers(losses: Losses) -> Losses:
    """Give utterances of no known speaker one mark; where none is known there is no column of speakers to draw by."""
    if "speaker" not in losses.frame:
        return losses
    nameless_N = losses.frame["speaker"].map(lambda name: is_nameless(str(name))).astype(bool)
    if nameless_N.all():
        return replace(losses, frame=losses.frame.drop(columns="speaker"))
    return replace(losses, frame=losses.frame.assign(speaker=losses.frame["speaker"].mask(nameless_N, NO_GROUP)))


def _known(speakers: pd.Series) -> pd.Series:
    """Leave the mark of unknown speakers out: it is nobody's name."""
    return speakers.mask(speakers == NO_GROUP)


def _cautions(losses: Losses, draws: Resampling) -> list[str]:
    """List what these losses do not show."""
    frame = losses.frame
    if draws.unit != "speakers":
        known = "only one speaker is known" if "speaker" in frame else "no speaker is known"
        return [f"Utterances count as independent, since {known}; of the same speakers, intervals would be wider."]
    found = ["Tests and effect sizes of pairs count utterances as independent; judge by the interval over speakers."]
    nameless = int((frame["speaker"] == NO_GROUP).sum())
    if nameless:
        found.append(f"{count(nameless, 'utterance')} of no known speaker: together they count as one speaker more.")
    few = _known(frame["speaker"]).groupby(frame["group"], observed=True).nunique()
    few = few[few < MIN_SPEAKERS]
    if len(few):
        listed = ", ".join(f"{name} ({number})" for name, number in few.items())
        found.append(f"Fewer than {MIN_SPEAKERS} speakers in {listed}: intervals are likely too narrow.")
    return found
