"""What is to be run: a study is a grid of trials that answers one question. Pure: no Ray, no torch, no files."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from launcher import training_arguments
from launcher.config import Configuration, ConfigurationError

SEED = "Trainer Arguments.seed"
_DEFAULT_SEED = 42  # transformers' own
# What cannot change a result stays out of a trial's id: where and how it runs, what is logged, how often it is saved.
_NO_EFFECT = {
    "Trainer Arguments": re.compile(
        r"^(output_dir|logging_|log_|report_to|run_name|disable_tqdm|dataloader_|save_|use_cpu|hub_|push_to_hub|do_predict|"
        r"per_device_eval_batch_size|ddp_|local_rank|resume_|skip_memory|project|trackio|include_|torch_empty)"
    ),
    "Training Configuration": re.compile(r"^(dataset_path|tensorboard|save_|micro_batch_seconds$)"),
}
# A trial that only measures a model is the same whatever the recipe of training would have been.
_MEASURING = re.compile(r"^(do_|seed$|bf16$|fp16$|full_determinism$)")
# An audit leaves the trained model what it is; in a trial that only measures, it is what was asked for.
_AUDIT = re.compile(r"^audit")
_OFF = frozenset({"None", "False", "0", "()", "[]", "'supervised'"})
_MATTERS_FOR_BEST_MODEL = re.compile(r"^save_(strategy|steps|total_limit)$")


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
    """

    trial_id: str
    variant: str
    seed: int
    axes: Mapping[str, Any]
    configuration: Configuration
    run_name: str


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
        results_version: version of the training code, as far as it changes numbers.
        data_fingerprint: hash of the data; set once they are prepared.
        weights: hash of the content of each local checkpoint that trials start from, by its path.
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

    def trials(self) -> tuple[Trial, ...]:
        """List the trials in the order of the plan, each once.

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
        return trials

    def with_data(self, fingerprint: str, weights: Mapping[str, str] | None = None) -> Study:
        """Return the study on these data, started from checkpoints of this content."""
        return replace(self, data_fingerprint=fingerprint, weights=weights or {})

    def baseline_variant(self) -> str | None:
        """Return the variant that the others are compared with, named by itself or by the value of its axis.

        Returns:
            None when the baseline is not part of this grid; then the first variant serves.
        """
        for trial in self.trials():
            values = {str(value) for name, value in trial.axes.items() if name != "seed"}
            if self.baseline is not None and (self.baseline == trial.variant or values == {self.baseline}):
                return trial.variant
        return None

    def _trial(self, configuration: Configuration, names: Mapping[str, str]) -> Trial:
        sections = configuration.as_dict()
        axes = {names[key]: _value(sections, key) for key in self.axes}
        seed = int(sections["Trainer Arguments"].get("seed", _DEFAULT_SEED))
        varied = {name: value for name, value in axes.items() if name != "seed"} or {
            "reduction": configuration.model.reduction
        }
        variant = ", ".join(f"{name}={value}" for name, value in varied.items())
        identity = {
            "configuration": what_matters(configuration, self.weights),
            "data": self.data_fingerprint,
            "results_version": self.results_version,
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        # The name says what is in every configuration, not what this study varies: another study finds the trial again.
        name = _slug({"reduction": configuration.model.reduction}, seed)
        return Trial(f"{name}-{digest}", variant, seed, axes, configuration, f"{_slug(varied, seed)}-{digest}")


def make(
    configuration: Configuration, cells: Iterable[Configuration], *, name: str, question: str, train_fn: str, prepare: str,
    results_version: int,
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


def what_matters(configuration: Configuration, weights: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return what of a configuration can change a result.

    The size of an update counts, not how it is cut into micro-batches and accumulation steps. What is switched off, or
    says transformers' own default, is left out: a key that a later version adds, at rest, leaves old trials what they are.

    Args:
        configuration: resolved.
        weights: content of local checkpoints by path; it counts in the place of the path.
    """
    sections = configuration.as_dict()
    given = sections["Trainer Arguments"]
    best, trains = bool(given.get("load_best_model_at_end")), given.get("do_train") is not False
    kept = {
        section: {
            key: (weights or {}).get(value, value) if isinstance(value, str) else value
            for key, value in values.items()
            if not (_NO_EFFECT[section].match(key) if section in _NO_EFFECT else False)
            or (best and _MATTERS_FOR_BEST_MODEL.match(key))
        }
        for section, values in sections.items()
    }
    chunk = given.get("per_device_train_batch_size")
    fields = training_arguments.fields()
    kept["Trainer Arguments"] = {
        key: value
        for key, value in kept["Trainer Arguments"].items()
        if key not in ("per_device_train_batch_size", "gradient_accumulation_steps")
        and not (key in fields and fields[key].default == value and not key.startswith("do_"))
        and (trains or _MEASURING.match(key))
        and not (key in ("do_train", "do_eval") and value is not False)
    }
    for section in ("Training Configuration", "Model Configuration"):
        kept[section] = {
            key: value
            for key, value in kept[section].items()
            if not _is_at_rest(configuration, section, key, value) and not (trains and _AUDIT.match(key))
        }
    kept["Trainer Arguments"].setdefault("seed", _DEFAULT_SEED)
    # stock_mean is the one whose fault is to depend on the micro-batch; an audit measures it too.
    if configuration.model.reduction.startswith("stock_mean") if trains else configuration.training.audit:
        kept["Trainer Arguments"]["micro_batch"] = chunk
    if trains:
        kept["Trainer Arguments"]["update_size"] = configuration.update_size
        if best and given.get("eval_strategy") == "steps":  # left out, it is logging_steps
            kept["Trainer Arguments"]["eval_steps"] = given.get("eval_steps") or given.get("logging_steps")
    return kept


def _is_at_rest(configuration: Configuration, section: str, key: str, value: Any) -> bool:
    """Return whether a key of lossgrid's own sections is off, which is its default."""
    model = configuration.training if section == "Training Configuration" else configuration.model
    default = type(model).model_fields[key].default
    return repr(value) in _OFF and (value == default or (value == [] and default == ()))


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Name axes by their key alone where that is unique, else by section and key."""
    keys = list(keys)
    bare = [key.partition(".")[2] for key in keys]
    return {key: name if bare.count(name) == 1 else key for key, name in zip(keys, bare)}


def _value(sections: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    """Return the value of a key; a list as the words that a person would write."""
    section, _, name = key.partition(".")
    value = sections[section].get(name)
    return (", ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else value


def _slug(varied: Mapping[str, Any], seed: int) -> str:
    """Make a file name that a person can read, for example `sum-s1`."""
    words = [str(value) if name == "reduction" else f"{name}={value}" for name, value in varied.items()]
    text = re.sub(r"[^A-Za-z0-9=.]+", "_", "-".join(words)).strip("_")
    return f"{text[:60]}-s{seed}"
