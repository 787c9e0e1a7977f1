"""What differs between two studies in how they were made: data, code, versions, machine, configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from launcher import why
from launcher.stats import with_columns
from launcher.trial_search import Place
from launcher.utterance_files import Study
from launcher.why import Difference

_COLUMNS = (
    "data_fingerprint",
    "git_sha",
    "git_patch",
    "python",
    "host",
    "node",
    "device",
    "workers",
    "threads",
    "mixed_code",
)
_IDENTITY = ("data", "repeat")  # told by data_fingerprint, and no part of what is compared


@dataclass(frozen=True)
class Made:
    """What differs; each with its values in A and in B.

    Attributes:
        origin: data, code, versions and machine.
        configuration: keys that can change a result.
        without_effect: keys that cannot.
        unknown: variants of which it is not known which keys can change a result.
    """

    origin: list[Difference]
    configuration: list[Difference]
    without_effect: list[Difference]
    unknown: list[str]


def made_differently(one: Study, other: Study, trials: Sequence[tuple[Place, Place]]) -> Made:
    """Compare how two studies were made.

    Args:
        one: the study A.
        other: the study B.
        trials: two trials of each pair of variants, whose configurations are compared.
    """
    origin = [
        *_differing("data", *((str((study.study["data"]).get("source", "not recorded")),) for study in (one, other))),
        *(found for name in _COLUMNS for found in _differing(name, *(_values(study, name) for study in (one, other)))),
        *_packages(one, other),
    ]
    effective: dict[str, Difference] = {}
    idle: dict[str, Difference] = {}
    unknown = []
    for ours, theirs in ((why.know(first), why.know(second)) for first, second in trials):
        makes = [] if ours.place.trial_id == theirs.place.trial_id else why.identity_differences(ours, theirs)
        if makes is None:
            unknown.append(f"{ours.place.trial_id} | {theirs.place.trial_id}")
        for found in makes or ():
            if found.key not in _IDENTITY:
                effective.setdefault(repr(found), found._replace(key=found.key.removeprefix("configuration.")))
        for found in why.idle_differences(ours, theirs, makes):
            if not found.key.startswith("launch"):
                (idle if makes is not None else effective).setdefault(repr(found), found)
    return Made(origin, list(effective.values()), list(idle.values()), unknown)


def _values(study: Study, name: str) -> tuple[str, ...]:
    """Return what the finished trials were made with."""
    rows = with_columns(study.results, ["status", name])
    return _named(rows.loc[rows["status"] == "done", name])


def _named(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted({"none" if value is None or pd.isna(value) else str(value) for value in values}))


def _differing(name: str, one: Sequence[str], other: Sequence[str]) -> list[Difference]:
    return [Difference(name, " and ".join(one) or "none", " and ".join(other) or "none")] if one != other else []


def _packages(one: Study, other: Study) -> list[Difference]:
    known = []
    for study in (one, other):
        rows = with_columns(study.results, ["status", "packages"])
        texts = rows.loc[rows["status"] == "done", "packages"].dropna().unique()
        known.append([json.loads(text) for text in texts])
    names = sorted({name for side in known for versions in side for name in versions})
    return [
        found
        for name in names
        for found in _differing(name, *(_named(versions.get(name) for versions in side) for side in known))
    ]
