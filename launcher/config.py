"""An experiment file and `--set` overrides become one checked, typed configuration. Pure: no Ray, no torch.

`load` is the way in. Everything wrong is told at once in a `ConfigurationError`; what is written the old way
and is understood gives a warning. `Configuration.to_conf` writes a file that loads to an equal configuration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import config_resolve, training_arguments
from launcher.config_file import PATHS, Entry, label, read_file
from launcher.config_models import ModelConfiguration, TrainingConfiguration
from launcher.config_resolve import MARGIN, STUDY, Draft
from launcher.config_schema import MODEL, TRAINER, TRAINING
from launcher.config_values import ConfigurationError, shown, split_values
from launcher.config_writer import conf_text

__all__ = ["Configuration", "ConfigurationError", "load", "split_values"]


@dataclass(frozen=True)
class Configuration:
    """A checked configuration. Two are equal when they ask for the same trials, whatever file they came from.

    Attributes:
        trainer_arguments: the fields of `transformers.TrainingArguments` that were given, typed.
        training: `[Training Configuration]`, defaults filled in.
        model: `[Model Configuration]`, defaults filled in.
        axes: "Section.key" -> the typed values of an axis, in the order given.
        baseline: the variant that the others are compared with, as given; None where the study decides.
        groups: the manifest columns to group results by.
        margin: differences of WER within it count as none.
        warnings: what was understood but should be written differently, or changes nothing.
        source: name of the file; None without one.
    """

    trainer_arguments: Mapping[str, Any]
    training: TrainingConfiguration
    model: ModelConfiguration
    axes: Mapping[str, tuple[Any, ...]]
    baseline: str | None = None
    groups: tuple[str, ...] = ("group",)
    margin: float = MARGIN
    warnings: tuple[str, ...] = field(default=(), compare=False)
    source: str | None = field(default=None, compare=False)

    @property
    def update_size(self) -> int:
        """Utterances in one update, whatever runs it: batch size times accumulation steps."""
        names = ("per_device_train_batch_size", "gradient_accumulation_steps")
        batch, steps = (self.trainer_arguments.get(name, training_arguments.fields()[name].default) for name in names)
        return int(batch * steps)

    def with_values(self, values: Mapping[str, Any]) -> Configuration:
        """Return a copy with some keys set, checked; a key that is set is no axis any more.

        Args:
            values: "Section.key" -> value. A text is taken as it is, the way the values of an axis are.

        Raises:
            ConfigurationError: a key does not exist, or a value does not fit.
        """
        draft = self._draft()
        entries = []
        for target, value in values.items():
            section, dot, key = target.rpartition(".")
            given = f"{target} = {shown(value)}"
            entries.append(Entry(section if dot else None, key, value, given, literal=True))
        config_resolve.apply_values(draft, entries, drop_axes=True)
        return dataclasses.replace(
            _finish(draft, self.source), warnings=tuple(dict.fromkeys((*self.warnings, *draft.warnings)))
        )

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return every setting by section, ready for JSON; without the axes."""
        return {
            TRAINER: dict(self.trainer_arguments),
            TRAINING: self.training.model_dump(mode="json"),
            MODEL: self.model.model_dump(mode="json"),
        }

    def to_conf(self) -> str:
        """Return the text of an experiment file that `load` reads back to an equal configuration."""
        return conf_text(self.as_dict(), self.axes, baseline=self.baseline, groups=self.groups, margin=self.margin)

    def _draft(self) -> Draft:
        values = {
            f"{section}.{key}": value for section, pairs in self.as_dict().items() for key, value in pairs.items()
        }
        return Draft(
            values=values, axes=dict(self.axes), baseline=self.baseline, groups=self.groups, margin=self.margin
        )


def load(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Configuration:
    """Read, type and check a configuration.

    Args:
        path: an experiment file; None for the settings of the search space alone.
        overrides: what followed `--set`, each KEY=VALUE or "Section.key=VALUE"; several values make an axis,
            one value replaces the value and ends an axis of that key. A later one wins over an earlier one.
        defaults: the settings of the search space by section, `[Study]` included; used only without a file.

    Raises:
        ConfigurationError: with every problem of the file and of the overrides.
    """
    draft = Draft()
    if path is None:
        place = "the search space"
        entries, sections = _default_entries(defaults or {}, place), list(defaults or {})
    else:
        place = Path(path).name
        entries, sections, draft.problems = read_file(Path(path))
    draft.output_dir = config_resolve.find_output_dir(entries, overrides)
    entries = config_resolve.known_sections(draft, entries, sections, place)
    config_resolve.apply_values(draft, [entry for entry in entries if entry.section != STUDY])
    config_resolve.apply_study(draft, [entry for entry in entries if entry.section == STUDY])
    config_resolve.apply_overrides(draft, overrides)
    config_resolve.forget_output_dir(draft)
    return _finish(draft, None if path is None else place)


def _default_entries(defaults: Mapping[str, Mapping[str, Any]], place: str) -> list[Entry]:
    return [
        Entry(section, key, value, label(key, value, section, place))
        for section, pairs in defaults.items()
        for key, value in pairs.items()
        if section != PATHS
    ]


def _finish(draft: Draft, source: str | None) -> Configuration:
    if draft.problems:
        raise ConfigurationError(*draft.problems)
    sections: dict[str, dict[str, Any]] = {TRAINER: {}, TRAINING: {}, MODEL: {}}
    for target, value in draft.values.items():
        section, _, key = target.partition(".")
        sections[section][key] = value
    return Configuration(
        trainer_arguments=sections[TRAINER],
        training=TrainingConfiguration(**sections[TRAINING]),
        model=ModelConfiguration(**sections[MODEL]),
        axes=draft.axes,
        baseline=draft.baseline,
        groups=draft.groups,
        margin=draft.margin,
        warnings=tuple(dict.fromkeys(draft.warnings)),
        source=source,
    )
