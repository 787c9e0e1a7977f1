"""Compare the variants of two studies: the study B minus the study A, on the utterances that both scored.

The statistics are those of `launcher.comparisons`, with A as the baseline. Pure. WER is a fraction, lower is better.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from launcher.comparison_sections import MOST_CLASSES
from launcher.comparisons import ROUNDS, comparisons, group_comparisons
from launcher.loss_stats import holm
from launcher.matching import Match
from launcher.noise import NoiseFloor
from launcher.pairing import pair
from launcher.significance import benjamini_hochberg
from launcher.stats import NO_GROUP, first_runs, with_columns
from launcher.tallies import COLUMNS, GIVEN_SPEAKER, Tally, tally
from launcher.utterance_files import UtteranceFiles, known_columns, parts

_OWN = frozenset("variant is_baseline baseline n_requested n_done n_seeds mean_wer seed_sd seed_low seed_high".split())
SIDES = ("A", "B")
_ONE_SEED = re.compile(r"^1 paired seed .*?as given\. ?")  # of the seeds that were put together there is one


@dataclass(frozen=True)
class Side:
    """One of the two studies.

    Attributes:
        name: A or B.
        results: one row per requested trial.
        utterances: what was scored.
    """

    name: str
    results: pd.DataFrame
    utterances: pd.DataFrame | UtteranceFiles

    def variant(self, variant: str) -> str:
        """Name a variant of this study among those of both."""
        return f"{self.name}: {variant}"


@dataclass(frozen=True)
class Scores:
    """The scores of both studies.

    Attributes:
        results: the first runs of the variants that are compared; trial ids and variants begin with A or B.
        tallied: their scores on utterances with one and the same reference.
        groups: columns to group by.
        left_out: utterances that A alone scored, that B alone scored, and those with another reference in B.
    """

    results: pd.DataFrame
    tallied: Tally
    groups: tuple[str, ...]
    left_out: Mapping[str, int]

    @property
    def common(self) -> int:
        """How many utterances both scored."""
        return len(self.tallied.utterances) - sum(self.left_out.values())


def collect(one: Side, other: Side, matches: Sequence[Match], groups: Sequence[str]) -> Scores:
    """Collect the scores of the variants that are compared.

    Args:
        one: the study A.
        other: the study B.
        matches: the variants.
        groups: columns to group by; those that only one study has are left out. Where an utterance is of another class in
            B, its class is that of A.
    """
    known = [set(known_columns(side.utterances)) for side in (one, other)]
    groups = tuple(name for name in dict.fromkeys(groups) if all(name in columns for columns in known))
    wanted = {"A": {match.one for match in matches}, "B": {match.other for match in matches}}
    frames = []
    for side in (one, other):
        rows = with_columns(first_runs(side.results), ["trial_id", "variant", "status", "seed", "wer"])
        rows = rows[rows["variant"].isin(wanted[side.name])]
        frames.append(
            rows.assign(
                trial_id=f"{side.name}/" + rows["trial_id"], variant=[side.variant(name) for name in rows["variant"]]
            )
        )
    results = pd.concat(frames, ignore_index=True)
    read = _Parts((one, other), results, groups)
    tallied = tally(results, read, groups)
    scored_A, scored_B = (_scored(tallied, name) for name in SIDES)
    key = tallied.utterances["utt_id"].astype(str) + "\0" + tallied.utterances[GIVEN_SPEAKER].astype(str)
    other_text = key.isin(list(read.other_text)).to_numpy(dtype=bool) & ~(scored_A & scored_B)
    left_out = {
        "A": int((scored_A & ~scored_B & ~other_text).sum()), "B": int((scored_B & ~scored_A & ~other_text).sum()),
        "other_reference": int(other_text.sum()),
    }  # fmt: skip
    return Scores(results, tallied, groups, left_out)


def _scored(tallied: Tally, side: str) -> np.ndarray:
    rows = tallied.trials["trial_id"].str.startswith(f"{side}/").to_numpy(dtype=bool)
    return np.asarray(np.isfinite(tallied.words[rows]).any(axis=0))


@dataclass
class _Parts:
    """The utterance tables of both studies, A first, without rows whose reference is not the one seen first."""

    sides: Iterable[Side]
    results: pd.DataFrame
    groups: tuple[str, ...]
    other_text: set[str] = field(default_factory=set)
    _known: pd.Series = field(default_factory=lambda: pd.Series(dtype=object))

    def __iter__(self) -> Iterator[pd.DataFrame]:
        done = set(self.results.loc[self.results["status"] == "done", "trial_id"])
        for side in self.sides:
            ids = {name.partition("/")[2] for name in done if name.startswith(f"{side.name}/")}
            for part in parts(side.utterances, [*COLUMNS, *self.groups, "reference"], ids, "final"):
                part = part.assign(trial_id=f"{side.name}/" + part["trial_id"].astype(str))
                yield self._with_the_same_text(part) if "reference" in part.columns else part

    def _with_the_same_text(self, part: pd.DataFrame) -> pd.DataFrame:
        speaker = part["speaker"] if "speaker" in part.columns else pd.Series(NO_GROUP, index=part.index)
        key = part["utt_id"].astype(str) + "\0" + speaker.astype(object).where(speaker.notna(), NO_GROUP).astype(str)
        said = part["reference"].astype(object).where(part["reference"].notna(), "").set_axis(key)
        said = said[~said.index.duplicated()]
        if not said.equals(self._known):  # every trial of a study scores the same utterances in the same order
            self._known = pd.concat([self._known, said[~said.index.isin(self._known.index)]])
        known = self._known.reindex(key).to_numpy()
        other = known != part["reference"].astype(object).where(part["reference"].notna(), "").to_numpy()
        self.other_text.update(key[other])
        return part[~other]


def compared(
    scores: Scores, matches: Sequence[Match], margin: float, noise: NoiseFloor | None, rounds: int = ROUNDS
) -> pd.DataFrame:
    """Compare each variant of B with that of A.

    Args:
        scores: of both.
        matches: the variants; they are the family that Holm's method corrects for.
        margin: differences of WER within it count as none.
        noise: how far equal runs differ, if one of the studies measured that.
        rounds: of the bootstrap.

    Returns:
        One row per match: variant, paired (whether by seed; else each side is averaged over its own seeds), seeds_a and seeds_b
        (finished), wer_a and wer_b (on what is compared), all_wer_a and all_wer_b (on all that each scored), and the columns of
        `launcher.comparisons.comparisons` from n_paired_seeds on.
    """
    rows = []
    for found in matches:
        names = [f"A: {found.one}", f"B: {found.other}"]
        tallied, paired = _tally_of(scores.tallied, *names)
        own = scores.results[scores.results["variant"].isin(names)]
        base, row = comparisons(own, tallied, names[0], margin=margin, noise=noise, rounds=rounds).to_dict("records")
        rows.append(
            {
                "variant": found.name, "variant_a": found.one, "variant_b": found.other, "paired": paired,
                "seeds_a": base["n_seeds"], "seeds_b": row["n_seeds"], **_rates(tallied, *names),
                "all_wer_a": base["mean_wer"], "all_wer_b": row["mean_wer"],
                **{str(name): value for name, value in row.items() if name not in _OWN},
                **({} if paired else _over_own_seeds(scores.tallied, row, *names)),
                "seeds_left_out": _alone(scores.tallied, *names) if paired else "",
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].to_numpy(dtype=float)))


def compared_by_group(
    scores: Scores, matches: Sequence[Match], column: str, noise: Mapping[str, float], rounds: int = 2000
) -> pd.DataFrame | None:
    """Compare each variant of B with that of A within the classes of a column: to explore, not to conclude.

    Returns:
        variant, and the columns of `launcher.comparisons.group_comparisons` from value on, baseline_wer as wer_a and wer as
        wer_b; without classes that hold nothing to compare. None where there are too many classes.
    """
    if scores.tallied.classes(column).nunique() > MOST_CLASSES:
        return None
    tables = []
    for found in matches:
        names = [f"A: {found.one}", f"B: {found.other}"]
        tallied, _ = _tally_of(scores.tallied, *names)
        own = scores.results[scores.results["variant"].isin(names)]
        table = group_comparisons(own, tallied, column, names[0], noise=noise, rounds=rounds)
        tables.append(table.drop(columns="baseline").assign(variant=found.name))
    table = pd.concat(tables, ignore_index=True)
    table = table[table["n_utterances"] > 0].rename(columns={"baseline_wer": "wer_a", "wer": "wer_b"})
    return table.assign(p_bh=benjamini_hochberg(table["p"].to_numpy(dtype=float))).reset_index(drop=True)


def common_seeds(tallied: Tally, one: str, other: str) -> list[str]:
    """Return what of two variants can be paired: seeds that both finished."""
    ours, theirs = (set(tallied.trials.loc[tallied.trials["variant"] == name, "pair"]) for name in (one, other))
    return sorted(ours & theirs)


def _tally_of(tallied: Tally, one: str, other: str) -> tuple[Tally, bool]:
    """Return the tally as it is where seeds can be paired; else one in which each variant is the mean of its seeds."""
    rows = [np.flatnonzero(tallied.trials["variant"] == name) for name in (one, other)]
    if common_seeds(tallied, one, other) or not all(map(len, rows)):
        return tallied, True
    trials = pd.DataFrame({"trial_id": [one, other], "variant": [one, other], "seed": 0, "pair": "all"})
    means = (
        np.stack([table[places].mean(axis=0) for places in rows])  # missing where a seed did not score the utterance
        for table in (tallied.errors, tallied.words, tallied.char_errors, tallied.chars)
    )
    return Tally(trials, tallied.utterances, *means), False


def _rates(tallied: Tally, one: str, other: str) -> dict[str, float]:
    """Return the WER of each on what is compared, averaged over the seeds that are."""
    pairs = pair(tallied, other, one)
    counts = {"wer_a": (pairs.base_errors_KU, pairs.base_words_KU), "wer_b": (pairs.errors_KU, pairs.words_KU)}
    return {
        name: float(np.mean(errors.sum(axis=1, dtype=float) / words.sum(axis=1, dtype=float)))
        if words.size and words.sum(axis=1).all()
        else math.nan
        for name, (errors, words) in counts.items()
    }


def _over_own_seeds(tallied: Tally, row: Mapping[Any, Any], one: str, other: str) -> dict[str, Any]:
    """Say what holds where no seed is in both: p over seeds is Welch's, and nothing speaks of pairs."""
    rows = [np.flatnonzero(tallied.trials["variant"] == name) for name in (one, other)]
    place_U = np.flatnonzero(np.isfinite(tallied.words[np.concatenate(rows)]).all(axis=0))
    errors, words = ([table[np.ix_(places, place_U)].sum(axis=1, dtype=float) for places in rows]
                     for table in (tallied.errors, tallied.words))  # fmt: skip
    rates = (
        [own / whole for own, whole in zip(errors, words, strict=True)]
        if len(place_U)
        else [np.zeros(len(places)) for places in rows]
    )
    tested = all(len(rate) > 1 for rate in rates) and any(float(rate.std()) > 0 for rate in rates)
    p = float(np.asarray(distributions.ttest_ind(rates[1], rates[0], equal_var=False))[1]) if tested else math.nan
    told = (
        f"No seed is in both: each side is averaged over its own ({len(rates[0])} and {len(rates[1])}), and it cannot be claimed "
        "that the difference holds for other seeds; the interval takes these as given. "
    )
    return {
        "n_paired_seeds": 0, "p_seeds": p, "mcnemar_p": math.nan, "equivalent": False, "covers": str(row["covers"]).replace("this seed", "these seeds"),
        "caution": (told + _ONE_SEED.sub("", row["caution"])).strip(),
    }  # fmt: skip


def _alone(tallied: Tally, one: str, other: str) -> str:
    """Name the seeds that have no partner."""
    ours, theirs = (
        {pair.partition("/")[0] for pair in tallied.trials.loc[tallied.trials["variant"] == name, "pair"]}
        for name in (one, other)
    )
    told = [
        f"{', '.join(sorted(left))} of {side}" for side, left in (("A", ours - theirs), ("B", theirs - ours)) if left
    ]
    return "; ".join(told)
