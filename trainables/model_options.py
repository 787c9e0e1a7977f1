"""What a model must know of the data and of [Model Configuration] before it is built; read without torch."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from trainables import variants
from trainables.corpora.store import Store
from trainables.errors import DataError
from trainables.trial import checkpoint_of, trains
from trainables.usage import Usage

KEYS = frozenset(
    (
        "freeze_encoder", "no_control_layer", "reinitialize_last_n_layers", "branch_layers", "task_group", "classes",
        "task_weight", "domaincls_loc", "training_type", "gradient_reversal", "gradient_reversal_lambda",
        "gradient_reversal_schedule",
    )
)  # fmt: skip
"""The keys of [Model Configuration] that some model acts on and that are no fields of its `Wav2Vec2Config`."""

DYSARTHRIC, CONTROL = "dysarthric", "control"
_FIRST = (DYSARTHRIC, "l2", CONTROL)
# Utterances are checked for their frames and labels before any trial starts.
_GIVEN_BY_THE_VOCABULARY = frozenset({"vocab_size", "pad_token_id"})
_FIXED = frozenset({"conv_kernel", "conv_stride"})


@dataclass(frozen=True)
class ModelOptions:
    """What a model is built for. The defaults are those of a plain CTC model.

    Attributes:
        tasks: groups that have a branch and an output layer of their own, in the order of their numbers.
        classes: what the auxiliary classifier tells apart, in the order of their numbers.
        branch_layers: transformer layers of each branch.
        reinitialized_layers: last transformer layers that start from fresh weights.
        location: what the classifier sees: "extractor", "encoder", "final" or the number of a layer, from 1.
        task_column: manifest column of the tasks.
        class_column: manifest column of the classes.
        unsupervised_task: value of `task_column` whose utterances get no CTC loss in training; None: all get it.
        merges_control: whether control counts as dysarthric in `task_column`.
    """

    tasks: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    branch_layers: int = 0
    reinitialized_layers: int = 0
    location: str | int = "final"
    task_column: str = "group"
    class_column: str = "group"
    unsupervised_task: str | None = None
    merges_control: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Manifest columns that `task_codes`, `class_codes` and `unsupervised` read."""
        by_task = self.tasks or self.unsupervised_task is not None
        return tuple(
            dict.fromkeys(((self.task_column,) if by_task else ()) + ((self.class_column,) if self.classes else ()))
        )

    def task_codes(self, columns: Mapping[str, Sequence[str | None]]) -> list[int]:
        """Number the task of each utterance.

        Raises:
            DataError: one has none, or one that has no branch.
        """
        values = self.merged(self.task_column, columns)
        if unknown := sorted({repr(value) for value in values if value not in self.tasks}):
            raise DataError(
                f"the model has branches for {', '.join(self.tasks)} and the column {self.task_column} also holds "
                f"{', '.join(unknown)}; fill or leave out these utterances, or name another column in task_group"
            )
        return [self.tasks.index(str(value)) for value in values]

    def class_codes(self, columns: Mapping[str, Sequence[str | None]]) -> list[int]:
        """Number the class of each utterance; -1 where there is none, or one that the training set does not have."""
        codes = {name: code for code, name in enumerate(self.classes)}
        return [-1 if not value else codes.get(value, -1) for value in self.merged(self.class_column, columns)]

    def unsupervised(self, columns: Mapping[str, Sequence[str | None]]) -> list[bool]:
        """Tell which utterances get no CTC loss in training."""
        if self.unsupervised_task is None:
            return [False] * len(next(iter(columns.values())))
        return [value == self.unsupervised_task for value in self.merged(self.task_column, columns)]

    def merged(self, column: str, columns: Mapping[str, Sequence[str | None]]) -> list[str | None]:
        """Read a column, with control counted as dysarthric where that was asked for."""
        merges = self.merges_control and column == self.task_column
        return [DYSARTHRIC if merges and value == CONTROL else value for value in columns[column]]

    def check_reinitialized(self, layers: int) -> None:
        """Check that a model of so many transformer layers has those that are to start afresh.

        Raises:
            DataError: it has fewer.
        """
        if self.reinitialized_layers > layers:
            raise DataError(
                f"reinitialize_last_n_layers = {self.reinitialized_layers}, and the model has {layers} transformer "
                f"layers; give a number from 0 to {layers}"
            )

    def check_branches(self, layers: int) -> None:
        """Check that the branches fit a model of so many transformer layers.

        Raises:
            DataError: they do not.
        """
        if not 0 <= self.branch_layers <= layers:
            raise DataError(
                f"branch_layers = {self.branch_layers}, and the model has {layers} transformer layers; give a number "
                f"from 0 (output layers only) to {layers} (where it is left out, reinitialize_last_n_layers stands in)"
            )
        if self.reinitialized_layers > self.branch_layers:
            raise DataError(
                f"reinitialize_last_n_layers = {self.reinitialized_layers} is more than branch_layers = "
                f"{self.branch_layers}: fresh layers belong to the branches; raise branch_layers or lower the other"
            )

    def check_location(self, layers: int) -> None:
        """Check that the classifier's layer exists.

        Raises:
            DataError: it does not.
        """
        named = self.location in ("extractor", "encoder", "final")
        numbered = isinstance(self.location, int) and 1 <= self.location <= layers
        if not named and not numbered:
            raise DataError(
                f"domaincls_loc = {self.location!r}: choose extractor, encoder, final or a transformer layer from 1 to "
                f"{layers}"
            )


PLAIN = ModelOptions()
"""Those of a plain CTC model."""


def of(sections: Mapping[str, Mapping[str, Any]], store: Store) -> ModelOptions:
    """Read [Model Configuration] against the data, and check that the model can be built.

    Args:
        sections: the resolved configuration of a trial; keys that are left out are off.
        store: the prepared data.

    Raises:
        DataError: settings, data and checkpoint do not fit each other.
    """
    settings, training = sections["Model Configuration"], sections.get("Training Configuration", {})
    module = variants.load("trainables.models", settings["model_type"])
    options = _without_data(settings, module.KEYS)
    rows = _Rows(store, Usage.of(training), options)
    # A model that is scored and not trained has its classes; the data may hold some of them, in any split.
    known = {} if trains(sections) else module.start(checkpoint_of(sections)).saved()
    if "branch_layers" in module.KEYS:
        options = replace(options, tasks=tuple(known.get("lossgrid_tasks") or rows.names(options.task_column)))
        options.task_codes(rows.columns(options.task_column))
    if "classes" in module.KEYS:
        unsupervised = settings.get("training_type") == "unsupervised" and trains(sections)
        first = _first_task(rows.names(options.task_column), options) if unsupervised else None
        classes = tuple(known.get("lossgrid_classes") or rows.names(options.class_column))
        options = replace(options, classes=classes, unsupervised_task=first)
        _check_classes(options)
    module.check(options, checkpoint_of(sections), settings)
    # What is loaded was trained as it stands; fresh layers were drawn when that model began.
    return replace(options, reinitialized_layers=0) if training.get("load_model") else options


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Order classes: dysarthric, l2, control first, in that order, as far as they occur; the others by name."""
    every = set(names)
    return tuple(name for name in _FIRST if name in every) + tuple(sorted(every - set(_FIRST)))


def _without_data(settings: Mapping[str, Any], keys: Collection[str]) -> ModelOptions:
    """Read what does not depend on the data."""
    fresh, asked = int(settings.get("reinitialize_last_n_layers") or 0), settings.get("branch_layers")
    if fresh and settings.get("freeze_encoder") and "branch_layers" not in keys:
        raise DataError(
            f"freeze_encoder = True would keep the {fresh} layers of reinitialize_last_n_layers at their random start; "
            "leave one of the two out"
        )
    return ModelOptions(
        branch_layers=fresh if asked is None else int(asked),
        reinitialized_layers=fresh,
        location=settings.get("domaincls_loc") or "final",
        task_column=settings.get("task_group") or "group",
        class_column=settings.get("classes") or "group",
        merges_control=bool(settings.get("no_control_layer")) and "no_control_layer" in keys,
    )


@dataclass(frozen=True)
class _Rows:
    """The utterances of a trial, as far as the classes of its model are concerned."""

    store: Store
    usage: Usage
    options: ModelOptions

    def columns(self, *names: str) -> dict[str, list[Any]]:
        """Read columns of the utterances that are used, and their split."""
        _, used = self.usage.columns(self.store, names)
        return {name: used[name] for name in dict.fromkeys((*names, "split"))}

    def names(self, column: str) -> tuple[str, ...]:
        """List the classes of the training utterances, in order."""
        columns = self.columns(column)
        present = {value for value in columns[column] if value}
        if self.options.merges_control and column == self.options.task_column and DYSARTHRIC not in present:
            raise DataError(
                f"no_control_layer = True merges control into dysarthric, and the column {column} has no class "
                f"dysarthric; it has: {', '.join(ordered(present)) or 'none'}. Leave the key out, or name the column "
                "that has it in task_group"
            )
        merged = self.options.merged(column, columns)
        return ordered(value for value, split in zip(merged, columns["split"]) if value and split == "train")


def _first_task(names: tuple[str, ...], options: ModelOptions) -> str:
    if len(names) < 2:
        raise DataError(
            f"training_type = unsupervised leaves no utterance with a CTC loss: the column {options.task_column} has "
            f"one class, {', '.join(names) or 'none'}; set training_type = supervised or name another task_group"
        )
    return names[0]


def _check_classes(options: ModelOptions) -> None:
    if len(options.classes) < 2:
        raise DataError(
            f"a classifier needs two classes or more, and the column {options.class_column} has "
            f"{', '.join(options.classes) or 'none'} in the training set; name another manifest column in classes"
        )
    if options.merges_control and options.unsupervised_task is None and options.class_column != options.task_column:
        raise DataError(
            f"no_control_layer = True has no effect with classes = {options.class_column} and training_type = "
            "supervised; leave it out"
        )


def check_fields(overrides: Collection[str], model_type: str) -> None:
    """Check fields of `Wav2Vec2Config` that an experiment file sets for a model.

    Raises:
        DataError: a field that there is not, or that is not free.
    """
    from transformers import Wav2Vec2Config

    known = {field.name for field in fields(Wav2Vec2Config)} - _GIVEN_BY_THE_VOCABULARY
    for name in overrides:
        if name in _GIVEN_BY_THE_VOCABULARY:
            raise DataError(
                f"{name!r} cannot be set for the model {model_type!r}: the vocabulary decides it; leave it out."
            )
        if name in _FIXED:
            raise DataError(f"{name!r} cannot be set for the model {model_type!r}: its frames are fixed; leave it out.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "use a field of transformers.Wav2Vec2Config."
            raise DataError(f"{name!r} is not a setting of the model {model_type!r}: {hint}")
