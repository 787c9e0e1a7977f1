"""What is to be run: a study is a grid of trials that answers one question. Pure: no Ray, no torch, no files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from launcher.config import Configuration, ConfigurationError
from launcher.config_resolve import MARGIN
from launcher.identity import DEFAULT_SEED, digest_of, what_matters
from launcher.masking import without_passwords

SEED = "Trainer Arguments.seed"


class Prepared(Protocol):
    """Data that is ready for trials."""

    @property
    def path(self) -> Any:
        """Folder that trials read."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of what trials can see of the data."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was asked for and has no effect on these data."""
        ...

    @property
    def weights(self) -> Mapping[str, str]:
        """Hash of the content of each local checkpoint that trials start from, by its path."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """Counts, rejects and sources, as they stand in study.json."""
        ...


@dataclass(frozen=True)
class Trial:
    """One variant with one seed.

    Attributes:
        trial_id: readable slug and 8 hex digits of a hash over everything that can change the result.
        variant: the cell of the grid without its seed, as in `reduction=sum`.
        seed: decides the order of the data, the initial weights and the dropout.
        axes: value of each axis, by its short name.
        configuration: everything, resolved.
        run_name: name in TensorBoard: every axis, seed and the same hash.
        identity: what the hash is of: the configuration as far as it matters, data, version of the training code, repeat.
        repeat: 0; or which further run of the same cell with the same seed this is.
    """

    trial_id: str
    variant: str
    seed: int
    axes: Mapping[str, Any]
    configuration: Configuration
    run_name: str
    identity: Mapping[str, Any]
    repeat: int = 0


@dataclass(frozen=True)
class Study:
    """A grid of trials.

    Attributes:
        name: name of the search space.
        question: what it answers, in a sentence.
        configurations: one resolved configuration per trial, in the order of the plan.
        axes: "Section.key" of each axis, with its values.
        train_fn: "module:function" that runs one trial; looked up by the worker, so that plans need no torch.
        prepare: "module:function" that makes the data ready; see `Prepared`.
        baseline: variant that the others are compared with; None: the first.
        groups: columns by which scores are split.
        margin: differences of WER within it count as none.
        results_version: version of the training code, as far as it changes numbers.
        data_fingerprint: hash of the data; set once they are prepared.
        weights: hash of the content of each local checkpoint that trials start from, by its path.
        probe: module that tries a trial for a few updates, run as a program of its own; empty: there is none.
        runs: how often the baseline's first trial is run in all: more than once, they show the noise floor.
    """

    name: str
    question: str
    configurations: tuple[Configuration, ...]
    axes: Mapping[str, tuple[Any, ...]]
    train_fn: str
    prepare: str
    baseline: str | None
    groups: tuple[str, ...]
    results_version: int
    data_fingerprint: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    probe: str = ""
    runs: int = 1
    margin: float = MARGIN

    def trials(self) -> tuple[Trial, ...]:
        """List the trials in the order of the plan, each once; further runs of the baseline's first trial come last.

        Raises:
            ConfigurationError: two cells of the grid are the same trial.
        """
        names = short_names(self.axes)
        trials = tuple(self._trial(configuration, names) for configuration in self.configurations)
        seen: dict[str, Trial] = {}
        for trial in trials:
            if trial.trial_id in seen:
                raise ConfigurationError(
                    f"the grid holds the same trial twice: {seen[trial.trial_id].variant} and {trial.variant}, seed "
                    f"{trial.seed}; give each value of an axis once, and no axis of a key that cannot change a result"
                )
            seen[trial.trial_id] = trial
        return trials + self._repeats(trials, names)

    def with_data(self, fingerprint: str, weights: Mapping[str, str] | None = None) -> Study:
        """Return the study on these data, started from checkpoints of this content."""
        return replace(self, data_fingerprint=fingerprint, weights=weights or {})

    def baseline_variant(self) -> str | None:
        """Return the variant that the others are compared with: named by itself, by the value of its axis or by some keys.

        Keys that name one variant do so also where the grid varies further keys, or no longer one of them.

        Returns:
            None when the baseline is not part of this grid, or names several variants; then the first variant serves.
        """
        if self.baseline is None:
            return None
        names, asked, meant = short_names(self.axes), named_values(self.baseline), dict[str, None]()
        for configuration in self.configurations:
            axes = _axes(configuration, names)
            values = {str(value) for name, value in axes.items() if name != "seed"}
            if self.baseline == (variant := _variant(_varied(configuration, axes))) or values == {self.baseline}:
                return variant
            if asked and asked.items() <= _every_value(configuration, axes).items():
                meant[variant] = None
        return next(iter(meant)) if len(meant) == 1 else None

    def _repeats(self, trials: Sequence[Trial], names: Mapping[str, str]) -> tuple[Trial, ...]:
        if self.runs < 2 or not trials:
            return ()
        baseline = self.baseline_variant()
        first = next((trial for trial in trials if trial.variant == baseline), trials[0])
        return tuple(self._trial(first.configuration, names, repeat) for repeat in range(1, self.runs))

    def _trial(self, configuration: Configuration, names: Mapping[str, str], repeat: int = 0) -> Trial:
        axes = _axes(configuration, names)
        seed = int(configuration.trainer_arguments.get("seed", DEFAULT_SEED))
        varied = _varied(configuration, axes)
        identity = {
            "configuration": what_matters(configuration, self.weights),
            "data": self.data_fingerprint,
            "results_version": self.results_version,
            **({"repeat": repeat} if repeat else {}),  # left out where it is none, as in the ids of earlier versions
        }
        digest = digest_of(identity)
        # The name says what is in every configuration, not what this study varies: another study finds the trial again.
        name, run_name = (
            _slug(values, seed, repeat) for values in ({"reduction": configuration.model.reduction}, varied)
        )
        return Trial(
            f"{name}-{digest}", _variant(varied), seed, axes, configuration, f"{run_name}-{digest}", identity, repeat
        )


def make(
    configuration: Configuration, cells: Iterable[Configuration], *, name: str, question: str, train_fn: str, prepare: str,
    results_version: int, probe: str = "",
) -> Study:  # fmt: skip
    """Make a study of some cells of a configuration.

    Where a cell scores several splits together, the scores are split by them too.
    """
    cells = tuple(cells)
    several = any(cell.training.test_set == "both" for cell in cells)
    return Study(
        name=name,
        question=question,
        configurations=cells,
        axes=configuration.axes,
        train_fn=train_fn,
        prepare=prepare,
        baseline=configuration.baseline,
        groups=tuple(dict.fromkeys((*configuration.groups, *(("split",) if several else ())))),
        results_version=results_version,
        probe=probe,
        margin=configuration.margin,
    )


def grid(
    configuration: Configuration, keep: Callable[[Mapping[str, Any]], bool] = lambda cell: True
) -> tuple[Configuration, ...]:
    """Cross the axes of a configuration; the last axis varies fastest.

    Args:
        configuration: with its axes.
        keep: tells whether a cell ("Section.key" -> value) is part of the study, for conditional axes.
    """
    keys = list(configuration.axes)
    cells = (dict(zip(keys, values)) for values in itertools.product(*configuration.axes.values()))
    return tuple(configuration.with_values(cell) for cell in cells if keep(cell))


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Name axes by their key alone where that is unique, else by section and key."""
    keys = list(keys)
    bare = [key.partition(".")[2] for key in keys]
    return {key: name if bare.count(name) == 1 else key for key, name in zip(keys, bare)}


def named_values(variant: str) -> dict[str, str]:
    """Read the name of a variant, `model_type=tiny, reduction=power(alpha=0.5)`, into the keys and values that it states.

    Returns:
        nothing where a part of it is no key and value, as in `mean`.
    """
    parts = re.split(r", (?=[\w. ]+=)(?![^(]*\))", variant)  # not between the parameters of a reduction
    pairs = [part.partition("=") for part in parts]
    return {key: value for key, _, value in pairs} if all(equals for _, equals, _ in pairs) else {}


def _every_value(configuration: Configuration, axes: Mapping[str, Any]) -> dict[str, str]:
    """Return the value of every key as it would stand in a variant, by its own name and by that of its axis."""
    sections = configuration.as_dict()
    bare = {key: _value(sections, f"{section}.{key}") for section, values in sections.items() for key in values}
    return {name: str(value) for name, value in {**bare, **axes}.items()}


def _axes(configuration: Configuration, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of each axis ("Section.key" -> its short name), by its short name."""
    sections = configuration.as_dict()
    return {name: _value(sections, key) for key, name in names.items()}


def _varied(configuration: Configuration, axes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a variant is named by: its axes; where nothing varies the reduction, or the model that is only measured."""
    if varied := {name: value for name, value in axes.items() if name != "seed"}:
        return varied
    if configuration.trainer_arguments.get("do_train") is not False:
        return {"reduction": configuration.model.reduction}
    model = configuration.model
    named = {"load_model": configuration.training.load_model, "pretrained_model_name": model.pretrained_model_name}
    return next(({key: value} for key, value in named.items() if value), {"model_type": model.model_type})


def _variant(varied: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in varied.items())


def _value(sections: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    """Return the value of a key; a list as the words that a person would write."""
    section, _, name = key.partition(".")
    value = sections[section].get(name)
    return (", ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else value


def _slug(varied: Mapping[str, Any], seed: int, repeat: int) -> str:
    """Make a file name that a person can read, for example `sum-s1`; `sum-s1-r2` for a repeat; of a path its end."""
    ends = {name: "/".join(without_passwords(str(value)).split("/")[-3:]) for name, value in varied.items()}
    words = [value if name == "reduction" else f"{name}={value}" for name, value in ends.items()]
    text = re.sub(r"[^A-Za-z0-9=.]+", "_", "-".join(words)).strip("_")
    return f"{text[:60]}-s{seed}" + (f"-r{repeat}" if repeat else "")
