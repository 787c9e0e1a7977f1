"""Which variant of one study is which of another: by the values of their axes, or as somebody says. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.reading import ResultsError

_WANTED = re.compile(r"\s*A=(.+?)\s*,\s*B=(.+?)\s*")
_MOST_NAMED = 12


@dataclass(frozen=True)
class Match:
    """A variant of the study A and the one of the study B that it is compared with."""

    one: str
    other: str

    @property
    def name(self) -> str:
        """What to call the two: their name, or both names."""
        return self.one if self.one == self.other else f"{self.one} | {self.other}"


def match(one: Mapping[str, Any], other: Mapping[str, Any], wanted: Sequence[str] = ()) -> list[Match]:
    """Find the variants that both studies have.

    Two variants are the same when all that either study varies, save for the seed, has the same value in both. What a study
    does not vary is read from its configuration; what differs and is varied in neither is not looked at here.

    Args:
        one: study.json of A.
        other: study.json of B.
        wanted: `A=...,B=...`, each a pair of variants to compare, by name or by the value of an axis; empty: all that match.

    Raises:
        ResultsError: none match, or one that is wanted does not exist.
    """
    if wanted:
        return list(dict.fromkeys(_wanted(words, one, other) for words in wanted))
    names = sorted(_varied(one) | _varied(other))
    ours, theirs = ({_cell(trial, names): trial["variant"] for trial in study["trials"]} for study in (one, other))
    found = [Match(variant, theirs[cell]) for cell, variant in ours.items() if cell in theirs]
    if not found:
        raise ResultsError(
            f"no variant is in both studies (compared by {', '.join(names)}): A has {_listed(one)}; B has {_listed(other)}; say "
            'which to compare, as in --variant "A=NAME,B=NAME"'
        )
    return found


def variants(study: Mapping[str, Any]) -> list[str]:
    """List the variants of a study, in its order."""
    return list(dict.fromkeys(trial["variant"] for trial in study["trials"]))


def _wanted(words: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Match:
    found = _WANTED.fullmatch(words)
    if not found:
        raise ResultsError(f'--variant {words!r} is no pair of variants; write it as --variant "A=NAME,B=NAME"')
    return Match(_named("A", found[1], one), _named("B", found[2], other))


def _named(side: str, words: str, study: Mapping[str, Any]) -> str:
    known = variants(study)
    if words in known:
        return words
    by_value = {
        trial["variant"]
        for trial in study["trials"]
        if words in {str(value) for name, value in trial["axes"].items() if name != "seed"}
    }
    if len(by_value) == 1:
        return by_value.pop()
    why = "names several variants" if by_value else "is no variant"
    raise ResultsError(f"--variant: {words!r} {why} of the study {side}; choose one of: {_listed(study)}")


def _listed(study: Mapping[str, Any]) -> str:
    known = variants(study)
    more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    return "; ".join(known[:_MOST_NAMED]) + more if known else "none"


def _varied(study: Mapping[str, Any]) -> set[str]:
    names = {name for trial in study["trials"] for name in trial["axes"] if name != "seed"}
    return {name for name in names if len({_text(_value(trial, name)) for trial in study["trials"]}) > 1}


def _cell(trial: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(_value(trial, name)) for name in names)


def _value(trial: Mapping[str, Any], name: str) -> Any:
    """Return the value of an axis, from the configuration where the study does not vary it."""
    if name in trial["axes"]:
        return trial["axes"][name]
    section, _, key = name.rpartition(".")
    for title, values in trial["configuration"].items():
        if section in ("", title) and isinstance(values, Mapping) and key in values:
            value = values[key]
            # As study.json writes the values of axes.
            return (", ".join(map(str, value)) or "none") if isinstance(value, list) else value
    return None


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
