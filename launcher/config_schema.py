"""What an experiment file may say: its sections, and the type of the value of each key.

`[Trainer Arguments]` is whatever the installed transformers knows (launcher/training_arguments.py); the two
sections of lossgrid itself are the models of launcher/config_models.py.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from launcher import training_arguments
from launcher.config_models import ModelConfiguration, TrainingConfiguration
from launcher.config_types import Off
from launcher.config_values import is_none, read_list, read_text, shown

TRAINER = "Trainer Arguments"
TRAINING = "Training Configuration"
MODEL = "Model Configuration"

MODELS: dict[str, type[BaseModel]] = {TRAINING: TrainingConfiguration, MODEL: ModelConfiguration}
SECTIONS = (TRAINER, TRAINING, MODEL)


def keys(section: str) -> Collection[str]:
    """Return the keys of a section of `SECTIONS`, in order."""
    return training_arguments.fields().keys() if section == TRAINER else MODELS[section].model_fields.keys()


def takes_list(target: str) -> bool:
    """Return whether the value of "Section.key" may be a list itself."""
    section, _, key = target.partition(".")
    if section == TRAINER:
        return training_arguments.takes_list(key)
    return _holds_tuple(MODELS[section].model_fields[key].annotation)


def _holds_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(_holds_tuple(part) for part in get_args(annotation))


def convert(target: str, value: Any, *, literal: bool = False) -> Any:
    """Return a value in the type of "Section.key", checked.

    Args:
        target: section and key, both of which exist.
        value: text as written in a file, or a value that has its type already.
        literal: take a text as it is: no quotes to strip, no `~` to expand, "None" is a word.

    Raises:
        ValueError: the value does not fit; the message is half a sentence ("a number is needed").
    """
    section, _, key = target.partition(".")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if section == TRAINER:
        return training_arguments.convert(key, value, literal=literal)
    off = next((mark for mark in MODELS[section].model_fields[key].metadata if isinstance(mark, Off)), None)
    if isinstance(value, str):
        value = _from_text(target, value, literal=literal, can_be_off=off is not None)
    if value is False and off is not None:
        value = off.value
    try:
        return getattr(MODELS[section](**{key: value}), key)
    except ValidationError as error:
        raise ValueError(_in_words(error)) from error


def _from_text(target: str, raw: str, *, literal: bool, can_be_off: bool) -> Any:
    """Read what the words say besides being words: nothing, off, or a list."""
    text = read_text(raw, literal=literal)
    if not text.words:
        raise ValueError("a value is missing")
    if text.quoted:
        return text.words
    if is_none(text.words):
        return None
    if can_be_off and text.words.lower() == "false":
        return False
    return read_list(raw) if takes_list(target) else text.words


def _in_words(error: ValidationError) -> str:
    """Return the first finding of pydantic in the words of this program."""
    first = error.errors()[0]
    kind, context = str(first["type"]), first.get("ctx", {})
    # Inside a list the value at fault is named: the location is (key, its place in the list).
    item = f"{shown(first['input'])}: " if isinstance(first["loc"][-1], int) else ""
    needs = (
        ("bool", "True or False is needed"),
        ("int", "a whole number is needed"),
        (("float", "finite"), "a number is needed"),
        ("string", "a text is needed"),
        (("tuple", "iterable"), "a list such as [a, b] is needed"),
        ("too_short", f"at least {context.get('min_length')} values are needed"),
        ("literal_error", f"{context.get('expected')} is needed"),
        ("value_error", str(context.get("error"))),
        ("greater_than_equal", f"it must be at least {context.get('ge', 0):g}"),
        ("greater_than", f"it must be greater than {context.get('gt', 0):g}"),
        ("less_than_equal", f"it must be at most {context.get('le', 0):g}"),
    )
    return item + next((words for kinds, words in needs if kind.startswith(kinds)), str(first["msg"]))
