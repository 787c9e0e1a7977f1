"""`why ID ID`: say what makes two trials two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from launcher import printable, progress, reading, trial_search, why
from launcher.config import ConfigurationError
from launcher.trial_search import Place
from launcher.why import Difference, Known

_MOST_SHOWN = 100
_SHOWN = ("wer", "cer", "nll_per_label", "updates", "seconds")  # all that was measured is in the JSON


def execute(words: tuple[str, str], outs: Sequence[Path], *, as_json: bool) -> None:
    """Compare two trials.

    Args:
        words: two ids, unique beginnings of ids, or folders of trials.
        outs: studies to search; empty: all of results/.
        as_json: write JSON instead of text.

    Raises:
        ConfigurationError: an id names no trial, or several; or both are the same folder.
    """
    one, other = (_known(place) for place in _two(*(trial_search.find(word, outs) for word in words)))
    same = one.place.trial_id == other.place.trial_id
    makes = [] if same else why.identity_differences(one, other)
    content = {
        "trials": [_described(one), _described(other)],
        "same_trial": same,
        "identity": None if makes is None else [difference._asdict() for difference in makes],
        "without_effect": [found._asdict() for found in why.idle_differences(one, other, makes)],
        "outcome": {name: list(values) for name, values in why.outcomes(one, other).items()},
        "agreement": why.agreement(one, other) if same else {},
    }
    if as_json:
        click.echo(json.dumps(content, indent=1, default=str))
    else:
        click.echo("\n".join(map(printable.line, _text(one, other, makes, content))))


def _known(place: Place) -> Known:
    reading.refuse_links(place.study)
    return why.know(place)


def _two(first: list[Place], second: list[Place]) -> tuple[Place, Place]:
    """Take one place of each; of the same trial two that are not the same folder."""
    for one in first:
        for other in second:
            if one.folder.resolve() != other.folder.resolve():
                return one, other
    raise ConfigurationError(
        f"both are the trial {first[0].trial_id} in {first[0].study}, and no other study that was searched has it; "
        "name two trials, or two studies with --out"
    )


def _described(known: Known) -> dict[str, Any]:
    return {
        "trial_id": known.place.trial_id,
        "folder": str(known.place.folder),
        "status": known.outcome["status"],
        "error": known.outcome.get("error"),
        "identity_known": known.identity is not None,
    }


def _text(one: Known, other: Known, makes: list[Difference] | None, content: dict[str, Any]) -> list[str]:
    lines = [f"{name} {known.place.trial_id}  [{known.outcome['status']}]  {known.place.folder}"
             for name, known in (("A", one), ("B", other))]  # fmt: skip
    if content["same_trial"]:
        lines += ["", "The ids are equal: this is the same trial, twice."]
        lines += [f"  {name}: {told}" for name, told in content["agreement"].items()]
        if not content["agreement"]:
            lines.append("  nothing to compare: not both are done")
    elif makes is None:
        lines += ["", "What makes the ids differ is not known: " + _unknown(one, other)]
    else:
        lines += ["", "What makes the ids differ (A | B):", *_lines(makes)]
        if not makes:
            lines.append("  nothing that was recorded; one of the folders was renamed or changed by hand")
    idle = [Difference(**found) for found in content["without_effect"]]
    if idle:
        title = "What differs besides" if makes is None else "What differs without effect on the ids"
        lines += ["", f"{title} (A | B):", *_lines(idle)]
    lines += [f"{name} failed: {progress.first_line(known.outcome.get('error'))}"
              for name, known in (("A", one), ("B", other)) if known.outcome["status"] == "failed"]  # fmt: skip
    if content["outcome"] and not content["same_trial"]:
        lines += ["", "What came out (A | B):"]
        lines += [
            f"  {name}: {_number(left)} | {_number(right)}"
            for name, (left, right) in content["outcome"].items()
            if name in _SHOWN or name.startswith("wer/")
        ]
    return lines


def _unknown(one: Known, other: Known) -> str:
    names = " and ".join(known.place.trial_id for known in (one, other) if known.identity is None)
    return f"of {names} no trial.json was written, and the hash does not follow from study.json (a local checkpoint counts by its content)"


def _lines(differences: Sequence[Difference]) -> list[str]:
    return [
        f"  {found.key.removeprefix('configuration.')}: {_value(found.one)} | {_value(found.other)}"
        for found in differences
    ]


def _value(value: Any) -> str:
    text = "its default" if value is None else str(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
