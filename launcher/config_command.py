"""`launch.py config FILE`: what an experiment file means, whether it is valid, and how it is written today."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from launcher import config, config_rules
from launcher.config import Configuration, ConfigurationError
from launcher.config_convert import converted
from launcher.config_schema import TRAINER
from launcher.config_values import shown
from launcher.study import grid, short_names

EXIT_DONE = 0
# Each cell is checked by itself; more than this is checked when a search space has thinned the grid out.
_MOST_CELLS = 10_000


@dataclass(frozen=True)
class Resolved:
    """A configuration that was checked in every cell of its grid.

    Attributes:
        configuration: with the values that follow from others in every cell.
        warnings: of the file and of the cells, each once.
        num_trials: cells of the grid.
    """

    configuration: Configuration
    warnings: tuple[str, ...]
    num_trials: int


def resolve(path: Path, overrides: Sequence[str] = ()) -> Resolved:
    """Load a file and check every cell of its grid.

    Raises:
        ConfigurationError: with every problem; one of some cells only names the first of them.
    """
    configuration = config.load(path, overrides)
    total = math.prod(len(values) for values in configuration.axes.values())
    if total > _MOST_CELLS:
        raise ConfigurationError(f"the axes of {path} make {total} trials; {_MOST_CELLS} are the most that are checked")
    problems: dict[str, list[Configuration]] = {}
    warnings, checked = dict.fromkeys(configuration.warnings), []
    for cell in grid(configuration):
        try:
            resolved, said = config_rules.check(cell)
        except ConfigurationError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(cell)
        else:
            checked.append(resolved)
            warnings.update(dict.fromkeys(said))
    if problems:
        raise ConfigurationError(
            *(f"{text}{_where(cells, configuration.axes, total)}" for text, cells in problems.items())
        )
    return Resolved(configuration.with_values(_implied(configuration, checked)), tuple(warnings), total)


def execute(path: Path, overrides: Sequence[str], *, check: bool, convert: bool, as_json: bool) -> int:
    """Print what was asked for to stdout, warnings to stderr.

    Returns:
        0: the file is valid.

    Raises:
        ConfigurationError: the file is not valid, or cannot be read; with every problem.
    """
    if convert:
        click.echo(converted(path).encode(), nl=False)
        return EXIT_DONE
    resolved = resolve(path, overrides)
    for warning in resolved.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(_content(path, resolved, with_values=not check), indent=1))
    elif check:
        click.echo(
            f"{path}: valid, {_count(resolved.num_trials, 'trial')}, {_count(len(resolved.warnings), 'warning')}"
        )
    else:
        click.echo(resolved.configuration.to_conf().encode(), nl=False)
    return EXIT_DONE


def _implied(configuration: Configuration, cells: Sequence[Configuration]) -> dict[str, Any]:
    """Return the trainer arguments that the rules have set to one value in all cells."""
    first = cells[0].trainer_arguments
    return {
        f"{TRAINER}.{name}": value
        for name, value in first.items()
        if f"{TRAINER}.{name}" not in configuration.axes
        and configuration.trainer_arguments.get(name) != value
        and all(cell.trainer_arguments.get(name) == value for cell in cells)
    }


def _where(cells: Sequence[Configuration], axes: Mapping[str, Any], total: int) -> str:
    """Say in which trials a problem is, unless it is in all."""
    if len(cells) == total:
        return ""
    sections = cells[0].as_dict()
    names = short_names(axes)
    values = ", ".join(f"{names[axis]} = {_value(sections, axis)}" for axis in axes)
    return f" (in {len(cells)} of {total} trials; the first has {shown(values, 200)[1:-1]})"


def _value(sections: Mapping[str, Mapping[str, Any]], axis: str) -> Any:
    section, _, key = axis.partition(".")
    return sections[section].get(key)


def _content(path: Path, resolved: Resolved, *, with_values: bool) -> dict[str, Any]:
    configuration = resolved.configuration
    found = {"file": str(path), "valid": True, "trials": resolved.num_trials, "warnings": list(resolved.warnings)}
    if not with_values:
        return found
    axes = {axis: list(values) for axis, values in configuration.axes.items()}
    study = {"axes": axes, "baseline": configuration.baseline, "groups": list(configuration.groups),
             "margin": configuration.margin}  # fmt: skip
    return {**found, **configuration.as_dict(), "Study": study}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
