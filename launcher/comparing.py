"""All that is to be said of two studies: how they were made, B minus A by variant and by group, and which trials agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from launcher import agreement, noise, two_studies
from launcher.agreement import Agreement
from launcher.answer import count
from launcher.config_resolve import MARGIN
from launcher.made_differently import Made, made_differently
from launcher.matching import Match, match, variants
from launcher.noise import NoiseFloor
from launcher.reading import ResultsError
from launcher.tallies import COLUMNS, tally
from launcher.trial_search import Place
from launcher.two_studies import Scores, Side
from launcher.utterance_files import Study, parts, whole


@dataclass(frozen=True)
class Found:
    """What a comparison gives.

    Attributes:
        matches: the variants that are compared.
        made: what differs in how they were made.
        scores: of both studies.
        margin: differences of WER within it count as none.
        noise: the larger noise floor of the two studies, with the name of the study; None: neither measured one.
        table: one row per match.
        groups: one table per group column; None: too many classes.
        trials: how far trials agree that are the same variant and seed.
        notes: what else a reader has to know.
    """

    matches: list[Match]
    made: Made
    scores: Scores
    margin: float
    noise: tuple[str, NoiseFloor] | None
    table: pd.DataFrame
    groups: dict[str, pd.DataFrame | None]
    trials: list[Agreement]
    notes: list[str]


def compare(
    one: Study, other: Study, folders: tuple[Path, Path], *, wanted: Sequence[str] = (), margin: float | None = None
) -> Found:
    """Compare two studies.

    Args:
        one: the study A.
        other: the study B.
        folders: theirs.
        wanted: pairs of variants, `A=...,B=...`; empty: all that match.
        margin: differences of WER within it count as none; None: as A says.

    Raises:
        ResultsError: there is nothing to compare, and why.
    """
    matches = match(one.study, other.study, wanted)
    sides = Side("A", one.results, one.utterances), Side("B", other.results, other.utterances)
    groups = [*_groups(one), *_groups(other)]
    scores = two_studies.collect(*sides, matches, groups)
    _require(scores, one, other)
    stated = [float(study.study.get("margin", MARGIN)) for study in (one, other)]
    used = margin if margin is not None else stated[0]
    floor, by_class = _noise(one, other, scores.groups)
    table = two_studies.compared(scores, matches, used, floor and floor[1])
    notes = _notes(one, other, matches, wanted)
    if margin is None and stated[0] != stated[1]:
        notes.append(
            f"the margin of A is {stated[0]:g} and that of B {stated[1]:g}; A's is used (--margin sets another)"
        )
    pairs = _paired_trials(scores, matches, one, other)
    return Found(
        matches=matches,
        made=made_differently(
            one,
            other,
            [
                (Place(ours, folders[0]), Place(theirs, folders[1]))
                for ours, theirs in _examples(one, other, matches, pairs)
            ],
        ),
        scores=scores,
        margin=used,
        noise=floor,
        table=table,
        groups={
            name: two_studies.compared_by_group(scores, matches, name, by_class.get(name, {})) for name in scores.groups
        },
        trials=[_agreement(one, other, *ids) for ids in pairs],
        notes=notes,
    )


def _groups(study: Study) -> list[str]:
    return list(study.study.get("groups") or [])


def _require(scores: Scores, one: Study, other: Study) -> None:
    for name in two_studies.SIDES:
        rows = scores.results[scores.results["trial_id"].str.startswith(f"{name}/")]
        if not (rows["status"] == "done").any():
            states = ", ".join(f"{number} {state}" for state, number in rows["status"].value_counts().items())
            raise ResultsError(
                f"no trial of {name} that is to be compared is done ({states}); let the study finish first"
            )
        tallied = scores.tallied
        ours = tallied.words[tallied.trials["trial_id"].str.startswith(f"{name}/").to_numpy(dtype=bool)]
        if not np.isfinite(ours).any():
            raise ResultsError(
                f"{name} has no utterances with counted errors (it was written by an older version, or scored nothing); "
                "run it again"
            )
    if not scores.common:
        left, sets = scores.left_out, [_test_set(study) for study in (one, other)]
        raise ResultsError(
            f"the studies scored no utterance in common: A alone {left['A']:,} (test_set {sets[0]}), B alone {left['B']:,} "
            f"(test_set {sets[1]}), with other references {left['other_reference']:,}; compare studies of the same test set"
        )


def _test_set(study: Study) -> str:
    sections = (trial["configuration"].get("Training Configuration", {}) for trial in study.study["trials"])
    return " and ".join(dict.fromkeys(str(values.get("test_set", "not recorded")) for values in sections))


def _noise(
    one: Study, other: Study, groups: Sequence[str]
) -> tuple[tuple[str, NoiseFloor] | None, dict[str, dict[str, float]]]:
    """Return the larger of the two noise floors, and the larger ones of each class."""
    found: list[tuple[str, NoiseFloor]] = []
    by_class: dict[str, dict[str, float]] = {name: {} for name in groups}
    for side, study in (("A", one), ("B", other)):
        equal = noise.equal_runs(study.results)
        ids = set(equal["trial_id"])
        floor = noise.noise_floor(
            study.results, whole(study.utterances, ["utt_id", "split", "hypothesis", "loss"], ids, "final")
        )
        if floor is None:
            continue
        found.append((side, floor))
        # As trials of their own: a tally leaves repeats out.
        runs = tally(equal.drop(columns="repeat"), parts(study.utterances, [*COLUMNS, *groups], ids, "final"), groups)
        for name in (name for name in groups if name in runs.utterances.columns):
            for value, width in noise.floor_by_class(runs, name).items():
                by_class[name][value] = max(width, by_class[name].get(value, 0.0))
    largest = max(found, key=lambda item: item[1].wer if np.isfinite(item[1].wer) else -1.0, default=None)
    return largest, by_class


def _notes(one: Study, other: Study, matches: Sequence[Match], wanted: Sequence[str]) -> list[str]:
    """Say what of the studies is not compared, or not yet."""
    notes = []
    for name, study, used in (
        ("A", one, {found.one for found in matches}), ("B", other, {found.other for found in matches}),
    ):  # fmt: skip
        states = study.results["status"].value_counts()
        if states.get("done", 0) < len(study.results):
            rest = ", ".join(f"{number} {state}" for state, number in states.items() if state != "done")
            notes.append(
                f"{name} is not finished: {states.get('done', 0)} of {count(len(study.results), 'trial')} done, {rest}"
            )
        left = [variant for variant in variants(study.study) if variant not in used]
        if left and not wanted:
            notes.append(f"in {name} alone, and not compared: {'; '.join(left)}")
    return notes


def _paired_trials(scores: Scores, matches: Sequence[Match], one: Study, other: Study) -> list[tuple[str, str]]:
    """Return the trials that are the same variant and seed, and both done."""
    trials = scores.tallied.trials
    found = []
    for which in matches:
        names = f"A: {which.one}", f"B: {which.other}"
        ours, theirs = (trials[trials["variant"] == name].set_index("pair")["trial_id"] for name in names)
        for place in two_studies.common_seeds(scores.tallied, *names):
            found.append((ours[place].partition("/")[2], theirs[place].partition("/")[2]))
    return found


def _examples(
    one: Study, other: Study, matches: Sequence[Match], pairs: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return two trials of each match, of the same seed where there is one: their configurations are compared."""
    of_one, of_other = (
        {trial["trial_id"]: trial["variant"] for trial in study.study["trials"]} for study in (one, other)
    )
    found: dict[Match, tuple[str, str]] = {}
    for ids in pairs:
        found.setdefault(Match(of_one[ids[0]], of_other[ids[1]]), ids)
    for which in matches:
        found.setdefault(
            which,
            (
                next(name for name, variant in of_one.items() if variant == which.one),
                next(name for name, variant in of_other.items() if variant == which.other),
            ),
        )
    return list(found.values())


def _agreement(one: Study, other: Study, one_id: str, other_id: str) -> Agreement:
    rows = [study.results[study.results["trial_id"] == name].iloc[0].to_dict()
            for study, name in ((one, one_id), (other, other_id))]  # fmt: skip
    said = [whole(study.utterances, agreement.COLUMNS, {name}) for study, name in ((one, one_id), (other, other_id))]
    return agreement.agree(*rows, *said)
