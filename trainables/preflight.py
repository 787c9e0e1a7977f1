"""What is checked and made ready once, before any trial starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainables import model_options, reduction_choice, reductions, variants, weights
from trainables.corpora import prepare as corpora
from trainables.corpora.store import Store
from trainables.errors import DataError
from trainables.tables import LENGTH
from trainables.trial import checkpoint_of, scored_splits, trains
from trainables.usage import Usage

Sections = Mapping[str, Mapping[str, Any]]
Progress = Callable[[int, int], None]

MODEL, TRAINING = "Model Configuration", "Training Configuration"
_OF_THE_LOSS = ("reduction", "reduction_group", "match_step", "ctc_zero_infinity", "dataset_loss_weighting")
_OFF = (None, False, 0, "supervised", (), [])


@dataclass(frozen=True)
class Ready:
    """Data and checkpoints that the trials of a study can use.

    Attributes:
        store: the prepared data.
        notes: what was asked for and has no effect on these data or models.
        weights: hash of the content of each local checkpoint that trials start from, by its path.
    """

    store: Store
    notes: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self.store.path

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a trial can see of the data."""
        return self.store.fingerprint

    @property
    def description(self) -> Mapping[str, Any]:
        """Content of `store.json`."""
        return self.store.description


def ready(
    source: str, folder: Path, trials: Sequence[Sections], groups: Sequence[str], progress: Progress | None = None
) -> Ready:
    """Prepare the data of a study and check that its models can be trained, or scored, on it.

    Args:
        source: "sample", a manifest or a prepared store.
        folder: where stores are kept.
        trials: the sections of the configuration of each trial.
        groups: columns by which scores are split.
        progress: called with (utterances done, utterances in all).

    Raises:
        DataError: the data cannot be used, a split or a group column is missing, or two columns share a value.
    """
    wanted = dict.fromkeys((trial[MODEL]["model_type"], checkpoint_of(trial)) for trial in trials)
    store = corpora.prepare(source, folder, list(wanted), progress, needs=_needed(trials))
    notes = [note for trial in trials for note in _model_notes(trial[MODEL])]
    seen: set[tuple[Any, ...]] = set()
    for trial in trials:
        usage = Usage.of(trial.get(TRAINING, {}))
        column = trial[MODEL].get("reduction_group", "group")
        weighting = [str(trial[MODEL].get(key)) for key in ("reduction", "dataset_loss_weighting", "no_control_layer")]
        audited = [str(trial.get(TRAINING, {}).get(key)) for key in ("audit", "audit_split")]
        asked = (usage, column, *weighting, *audited, trains(trial), scored_splits(trial))
        if asked not in seen:
            seen.add(asked)
            notes += _check(store, trial, usage, column)
    _check_columns(store, dict.fromkeys((*groups, *(trial[MODEL].get("reduction_group", "group") for trial in trials))))
    for trial in {_model_key(trial): trial for trial in trials}.values():
        model_options.of(trial, store)
    _check_groups(store, groups)
    hashes = {name: found for _, name in wanted if name is not None and (found := weights.hash_of(name)) is not None}
    return Ready(store, tuple(dict.fromkeys(notes)), hashes)


def _needed(trials: Sequence[Sections]) -> tuple[str, ...]:
    """Return the splits that the data themselves must have; what a trial measures, or splits by name, is checked for it."""
    as_given = (trial for trial in trials if Usage.of(trial.get(TRAINING, {})).split is None)
    return corpora.TRAINED if any(trains(trial) for trial in as_given) else ()


def _model_key(trial: Sections) -> str:
    """Tell apart what asks for another model; trials that differ in the loss alone do not."""
    model = {key: value for key, value in trial[MODEL].items() if key not in _OF_THE_LOSS}
    return repr((sorted(model.items()), Usage.of(trial.get(TRAINING, {})), checkpoint_of(trial), trains(trial)))


def prepare(
    source: str,
    folder: Path,
    models: Sequence[Mapping[str, Any]],
    groups: Sequence[str],
    progress: Progress | None = None,
) -> Store:
    """Prepare data for models alone: `ready` for the [Model Configuration] of each trial."""
    return ready(source, folder, [{MODEL: model} for model in models], groups, progress).store


def _model_notes(model: Mapping[str, Any]) -> list[str]:
    """Say which keys the type of a model does not act on."""
    own = variants.load("trainables.models", model["model_type"]).KEYS
    routes = "branch_layers" in own or model.get("training_type") == "unsupervised" or model.get("no_control_layer")
    idle = model.get("task_group") if "task_group" in own and not routes else None
    return (
        [f"task_group = {idle!r} has no effect in supervised training without no_control_layer"] * bool(idle)
        + [
            f"{key} = {model[key]!r} has no effect with model_type = {model['model_type']}; it belongs to {', '.join(types)}"
            for key, types in variants.model_keys().items()
            if key not in own
            and key in model
            and model[key] not in _OFF
            and not (key == "no_control_layer" and model.get("dataset_loss_weighting"))
        ]
        + _reduction_notes(model)
    )


def _reduction_notes(model: Mapping[str, Any]) -> list[str]:
    column = model.get("reduction_group", "group")
    reduction = reductions.parse(model.get("reduction", "mean"))
    if column == "group" or reduction.needs_groups or model.get("dataset_loss_weighting"):
        return []
    return [f"reduction_group = {column!r} has no effect with reduction = {reduction}, which weighs no groups"]


def _check(store: Store, trial: Sections, usage: Usage, column: str) -> list[str]:
    """Check one way of using the data: its splits are there, and the reduction knows its groups."""
    _, columns = usage.columns(store, (column,))
    splits = set(columns["split"])
    for name in scored_splits(trial):
        if name not in splits:
            raise DataError(
                f"test_set = {trial[TRAINING]['test_set']}: the data have no usable utterance in the split {name}; they "
                f"have: {', '.join(sorted(splits)) or 'none'}; name one of these, or set do_eval = False to score nothing"
            )
    if trains(trial):
        for name in ("train", "validation"):
            if name not in splits:
                raise DataError(
                    f"nothing is left of the split {name!r} (left: {', '.join(sorted(splits)) or 'nothing'}); both train "
                    "and validation are needed: look at split, filter_controls, filter_datasets and l2_speakers"
                )
        reduction_choice.choose(trial[MODEL], _groups(columns, column, "train"))
    training, notes = trial.get(TRAINING, {}), usage.selection.without_effect(Usage().columns(store)[1])
    if training.get("audit"):
        audited = training.get("audit_split") or "train"
        if audited not in splits:
            raise DataError(
                f"audit_split = {audited}: the data have no usable utterance in that split; they have: "
                f"{', '.join(sorted(splits)) or 'none'}; name one of these, or set audit = False"
            )
        notes = [*notes, *_audit_notes(trial, columns, column, audited)]
    return notes


def _groups(columns: Mapping[str, Sequence[Any]], column: str, name: str) -> tuple[str, ...]:
    """Return the groups of a split."""
    return tuple(sorted({value for value, split in zip(columns[column], columns["split"]) if split == name}))


def _audit_notes(trial: Sections, columns: Mapping[str, Sequence[Any]], column: str, split: str) -> list[str]:
    """Check that the reduction of a trial can be audited, and say which others cannot: they weigh by the training set.

    Raises:
        DataError: the trial's own reduction weighs groups, and the training set lacks one that is audited.
    """
    audited, training = _groups(columns, column, split), _groups(columns, column, "train")
    lacking = [group for group in audited if group not in training]
    why = (
        f"and training has no utterance of {', '.join(lacking)}"
        if training
        else "and the data have no training utterances"
    )
    reduction = reduction_choice.choose(trial[MODEL], training or audited)
    if reduction_choice.audit_lacks(reduction, audited, training):
        raise DataError(
            f"audit_split = {split}: reduction {str(reduction)!r} weighs groups as the training set has them, {why}; "
            "audit a split of groups that are trained on, or set audit = False"
        )
    if lacking:
        return [
            f"the audit of the split {split} leaves out reductions that weigh groups as the training set has them, {why}"
        ]
    return []


def _check_columns(store: Store, names: Iterable[str]) -> None:
    """Refuse columns that hold no classes: numbers, audio, and the name that audits give to bins of length."""
    classes = [field.name for field in store.table.schema if pa.types.is_string(field.type) and field.name != LENGTH]
    for name in names:
        if name == LENGTH:
            raise DataError(
                f"{LENGTH!r} is the name of the audits' own bins of labels; rename that column of the manifest"
            )
        if name in store.table.column_names and name not in classes:
            raise DataError(f"{name} is no column of classes; choose among {', '.join(classes)}")


def _check_groups(store: Store, groups: Sequence[str]) -> None:
    owner: dict[str, str] = {}
    for column, values in store.columns(groups).items():
        for value in dict.fromkeys(values):
            if value in owner:
                raise DataError(
                    f"the group columns {owner[value]} and {column} both hold {value!r}, so `wer/{value}` would be "
                    "ambiguous; rename it in the manifest or leave one column out of groups"
                )
            owner[value] = column
