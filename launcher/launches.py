"""The launches that a trial was handed to: which of them made it, and whether code or versions changed under it. Pure.

`trial.json` in the folder of a trial: {"identity": what its id is the hash of, "folder_id": tells this folder from one that
`--fresh` has set aside, "launches": [one per launch, newest last]}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

Launch = Mapping[str, Any]
UNKNOWN_PATCH = "unknown"
"""Stands for the name of a patch that git did not give."""
COLUMNS = ("git_sha", "git_patch", "python", "packages", "command", "host", "launched")
"""Columns of the results table that say with what a trial was made; all text, beside the truth value `mixed_code`."""


def handed_out(before: Sequence[Launch], launch: Launch, *, attempts: int, goes_on: bool) -> list[dict[str, Any]]:
    """Return the launches of a trial once another one takes it.

    Args:
        before: those so far; one that never came to begin the trial is forgotten.
        launch: the new one.
        attempts: how often the trial was begun before.
        goes_on: whether its folder holds something that the new launch will use: a checkpoint, scores of the start.
    """
    kept = [dict(entry) for entry in before]
    if kept and kept[-1].get("attempts") == attempts:
        kept.pop()
    return [*kept, {**launch, "attempts": attempts, "goes_on": goes_on}]


def mixed(launches: Sequence[Launch]) -> bool | None:
    """Tell whether code or versions changed under a trial.

    Args:
        launches: those that began it, newest last.

    Returns:
        None where that is not known: no launch was recorded, or git did not tell what differed.
    """
    chain = _chain(launches)
    if not chain:
        return None
    if any(changes(one, other) for one, other in pairwise(chain)):
        return True
    patch_unknown = len(chain) > 1 and any(entry.get("git_patch") == UNKNOWN_PATCH for entry in chain)
    return None if chain[0].get("goes_on") or patch_unknown else False


def changes(before: Launch, after: Launch) -> list[str]:
    """Say what differs between the code and versions of two launches: `numpy 2.3.0 -> 2.4.0`; empty when nothing does."""
    found = []
    if before.get("git_sha") != after.get("git_sha"):
        found.append(f"commit {_short(before.get('git_sha'))} -> {_short(after.get('git_sha'))}")
    if before.get("git_patch") != after.get("git_patch"):
        found.append(f"changes {before.get('git_patch') or 'none'} -> {after.get('git_patch') or 'none'}")
    versions = [{"python": entry.get("python"), **(entry.get("packages") or {})} for entry in (before, after)]
    for name in sorted({*versions[0], *versions[1]}):
        one, other = (known.get(name) for known in versions)
        if one != other:
            found.append(f"{name} {one or 'none'} -> {other or 'none'}")
    return found


def columns(trial: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row of the results table says of how the trial was made.

    Args:
        trial: trial.json; empty for a trial that never was handed out, or was so by an older version.
        outcome: what became of the trial: status, attempts, and from its worker python and packages.
    """
    launches = begun(trial.get("launches") or (), outcome)
    newest = launches[-1] if launches else {}
    packages = outcome.get("packages") or newest.get("packages")
    return {
        **{name: newest.get(name) for name in ("git_sha", "git_patch", "command", "host")},
        "launched": newest.get("started"),
        "python": outcome.get("python") or newest.get("python"),
        "packages": json.dumps(packages, sort_keys=True) if packages else None,
        "mixed_code": mixed(launches),
    }


def begun(launches: Sequence[Launch], outcome: Mapping[str, Any]) -> Sequence[Launch]:
    """Leave out the newest launch where it ended before it came to this trial."""
    if launches and outcome.get("status") != "done" and launches[-1].get("attempts") == outcome.get("attempts"):
        return launches[:-1]
    return launches


def _chain(launches: Sequence[Launch]) -> Sequence[Launch]:
    """Return the launches whose work is in the trial: from the last one that had to begin it anew."""
    fresh = [place for place, entry in enumerate(launches) if not entry.get("goes_on")]
    return launches[fresh[-1] :] if fresh else launches


def _short(commit: str | None) -> str:
    return commit[:10] if commit else "none"
