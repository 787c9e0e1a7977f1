"""Why two trials are two: what their ids are the hash of, what differs besides, and what came out. Reads only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from launcher import config, reading, results
from launcher.config import Configuration, ConfigurationError
from launcher.config_models import ModelConfiguration, TrainingConfiguration
from launcher.config_schema import MODEL, TRAINER, TRAINING
from launcher.identity import digest_of, what_matters
from launcher.trial_search import Place

_MOST_VERSIONS, _REPEAT = 100, re.compile(r"-r([1-9]\d*)-[0-9a-f]{8}$")
_LAYOUT = (f"{TRAINER}.per_device_train_batch_size", f"{TRAINER}.gradient_accumulation_steps")
_UPDATE_SIZE = f"{TRAINER}.update_size"
_LAUNCH = ("git_sha", "git_patch", "command", "python", "packages", "host", "started")
_SCORES = ("wer", "cer", "nll_per_label", "updates", "grad_norm", "clip_fraction", "update_ratio", "padding_fraction")
_TABLES = ("utterances", "history", "shares")


class Difference(NamedTuple):
    """A key with its value in one trial and in the other; None where it is not set, and the default stands."""

    key: str
    one: Any
    other: Any


@dataclass(frozen=True)
class Known:
    """What the folder of a trial tells.

    Attributes:
        place: where it is.
        identity: what its id is the hash of; None: not recorded, and not to be worked out.
        configuration: resolved, by section; empty where nothing was written down.
        launch: the newest launch that took it.
        outcome: what became of it.
    """

    place: Place
    identity: Mapping[str, Any] | None
    configuration: Mapping[str, Mapping[str, Any]]
    launch: Mapping[str, Any]
    outcome: Mapping[str, Any]


def know(place: Place) -> Known:
    """Read what the folder of a trial, or the study that asked for it, tells.

    Raises:
        ConfigurationError: its trial.json is damaged.
    """
    path = place.folder / "trial.json"
    try:
        recorded = reading.json_file(path) if path.is_file() else {}
    except ValueError as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); remove it to compare without") from error
    study = results.read_study(place.study) if (place.study / "study.json").is_file() else {}
    sections = _configuration(place, study)
    return Known(
        place,
        recorded.get("identity") or _worked_out(place.trial_id, sections, study),
        sections,
        (recorded.get("launches") or [{}])[-1],
        results.outcome(place.folder),
    )


def identity_differences(one: Known, other: Known) -> list[Difference] | None:
    """Return what makes the ids differ; None where the identity of one is not known."""
    if one.identity is None or other.identity is None:
        return None
    return list(_differences(one.identity, other.identity))


def idle_differences(one: Known, other: Known, effective: list[Difference] | None) -> list[Difference]:
    """Return what differs in the configurations and launches besides, without effect on the ids."""
    keys = {difference.key.removeprefix("configuration.") for difference in effective or ()}
    hidden = keys | (set(_LAYOUT) if _UPDATE_SIZE in keys else set())
    idle = [one for one in _differences(one.configuration, other.configuration) if one.key not in hidden]
    if not one.launch or not other.launch:
        told = ["recorded" if known.launch else "not recorded" for known in (one, other)]
        return [*idle, *([Difference("launch", *told)] if one.launch or other.launch else [])]
    first, second = ({name: known.launch.get(name) for name in _LAUNCH} for known in (one, other))
    return [*idle, *_differences(first, second, "launch.")]


def outcomes(one: Known, other: Known) -> dict[str, tuple[Any, Any]]:
    """Return the scores of both, where both are done: all that begin with wer, cer or nll_per_label, and some more."""
    if {one.outcome["status"], other.outcome["status"]} != {"done"}:
        return {}
    names = [name for name in (*one.outcome, "seconds") if name.split("/")[0] in _SCORES or name == "seconds"]
    return {name: (one.outcome.get(name), other.outcome.get(name)) for name in dict.fromkeys(names)}


def agreement(one: Known, other: Known) -> dict[str, str]:
    """Compare what two runs of one trial measured.

    Returns:
        for result.json and each table that both have: "equal", or in words what differs.
    """
    found = {}
    scores = {name: values for name, values in outcomes(one, other).items() if name != "seconds"}
    if scores:
        differing = [name for name, (left, right) in scores.items() if left != right]
        found["result.json"] = f"{', '.join(differing)} differ" if differing else "equal"
    for name in _TABLES:
        paths = [known.place.folder / f"{name}.parquet" for known in (one, other)]
        if all(path.is_file() for path in paths):
            found[f"{name}.parquet"] = _compared(*(reading.table(path).to_pylist() for path in paths))
    return found


def _compared(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    if len(one) != len(other):
        return f"{len(one)} rows and {len(other)} rows"
    # repr, as NaN equals nothing, not even itself
    differing = sum(repr(left) != repr(right) for left, right in zip(one, other, strict=True))
    return f"{differing} of {len(one)} rows differ" if differing else "equal"


def _configuration(place: Place, study: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    for trial in study.get("trials", ()):
        if trial["trial_id"] == place.trial_id:
            return trial["configuration"]
    path = place.folder / "trial.conf"
    return config.load(path).as_dict() if path.is_file() else {}


def _worked_out(
    trial_id: str, sections: Mapping[str, Mapping[str, Any]], study: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Work out what an id is the hash of, from study.json; whether it is right is told by the hash itself."""
    if not study or not {TRAINER, TRAINING, MODEL} <= set(sections):
        return None
    try:
        configuration = Configuration(
            dict(sections[TRAINER]),
            TrainingConfiguration(**sections[TRAINING]),
            ModelConfiguration(**sections[MODEL]),
            {},
        )
    except ValidationError:  # a version of lossgrid with other keys wrote it
        return None
    identity: dict[str, Any] = {
        "configuration": what_matters(configuration),
        "data": study["data"]["fingerprint"],
        "results_version": 0,
    }
    if repeat := _REPEAT.search(trial_id):
        identity["repeat"] = int(repeat[1])
    for version in range(_MOST_VERSIONS):
        identity["results_version"] = version
        if trial_id.endswith(digest_of(identity)):
            return identity
    return None


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[Difference]:
    for key in dict.fromkeys((*one, *other)):
        left, right = one.get(key), other.get(key)
        if isinstance(left, Mapping) or isinstance(right, Mapping):
            yield from _differences(left or {}, right or {}, f"{prefix}{key}.")
        elif left != right or type(left) is not type(right):
            yield Difference(f"{prefix}{key}", left, right)
