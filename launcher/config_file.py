"""An experiment file as text: sections, keys and values, with every fault of its writing found in one go.

configparser stops at the first fault. Here the faulty line is noted and taken out, and the rest is read
again, so that a person sees all of them at once.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from launcher.config_schema import TRAINER
from launcher.config_values import ConfigurationError, short, shown

#: The section whose keys only serve the references in other sections.
PATHS = "Paths"
MOST_BYTES = 1_000_000
# After this many faults of writing it is not an experiment file; each one costs another reading of the text.
_MOST_FAULTS = 20


@dataclass(frozen=True)
class Entry:
    """One key as it was given.

    Attributes:
        section: the section it stands in; None after `--set KEY=VALUE`, where the key has to be found.
        key: its name as given.
        value: text, or a value that has its type already.
        label: how a message calls it: what was given, and where.
        literal: a text is taken as it is: no quotes to strip, "None" is a word.
    """

    section: str | None
    key: str
    value: Any
    label: str
    literal: bool = False


@dataclass
class _Reading:
    """The state of one reading: the lines still to be read, and the faults found so far."""

    name: str
    lines: list[str]
    problems: list[str] = field(default_factory=list)


def label(key: str, value: Any, section: str, place: str) -> str:
    """Return how messages call a key: what was given, and where."""
    return f"{short(key)} = {shown(value)} in [{short(section)}] of {place}"


class Content(NamedTuple):
    """What a file holds: its entries, its sections, and what could not be read."""

    entries: list[Entry]
    sections: list[str]
    problems: list[str]


def read_file(path: Path) -> Content:
    """Read an experiment file, with its references filled in.

    Raises:
        ConfigurationError: there is no text to read: no file, too large, not UTF-8, no section.
    """
    reading = _Reading(path.name, text_of(path).split("\n"))
    if (first := _first_word(reading.lines)) and not any(line.startswith("[") for line in reading.lines):
        raise ConfigurationError(
            f"{path} has no [Section], it begins with {shown(first)}: that is no experiment file; a manifest is given as --data"
        )
    parser = _parse(reading)
    if not parser.sections() and not reading.problems:
        raise ConfigurationError(f"{path} is empty: it has no section; write at least [{TRAINER}]")
    entries = []
    for name in parser.sections():
        for key in parser[name]:
            entry = _entry(parser, reading, name, key)
            if entry is not None:
                entries.append(entry)
    # A second section of the same name was renamed with a NUL, so that its keys are still checked.
    sections = dict.fromkeys(name.partition("\0")[0] for name in parser.sections())
    return Content(entries, list(sections), reading.problems)


def _first_word(lines: Sequence[str]) -> str:
    """Return the first line that says something."""
    return next((line for line in lines if line.strip() and not line.lstrip().startswith(("#", ";"))), "")


def text_of(path: Path) -> str:
    """Return the text of an experiment file, with plain line ends.

    Raises:
        ConfigurationError: there is none: no file, too large, not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} does not exist; give the path of an experiment file (.conf)") from error
    except IsADirectoryError as error:
        raise ConfigurationError(f"{path} is a folder; give the path of an experiment file (.conf)") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{str(path)!r} cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise ConfigurationError(f"{path} is larger than {MOST_BYTES} bytes; that is no experiment file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            f"{path} is not UTF-8 (byte 0x{data[error.start]:02x} in line {line}); save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigurationError(f"{path} holds a NUL character in line {line}; that is no text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _parse(reading: _Reading) -> configparser.ConfigParser:
    """Parse the lines, noting and repairing one faulty line after another."""
    while True:
        parser = configparser.ConfigParser(
            interpolation=configparser.ExtendedInterpolation(),
            comment_prefixes=("#", ";"),
            inline_comment_prefixes=("#", ";"),
            empty_lines_in_values=False,
            # No section is special (a file holds no NUL): keys of [DEFAULT] would turn up in all others.
            default_section="\0",
        )
        # Keys stay as they are written. The assignment is the documented way; the checkers see a method.
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string("\n".join(reading.lines))
            return parser
        except configparser.Error as error:
            _repair(reading, error)
        if len(reading.problems) >= _MOST_FAULTS:
            raise ConfigurationError(*reading.problems, f"{reading.name} has too many faults; the rest was not read")


def _repair(reading: _Reading, error: configparser.Error) -> None:
    """Note what is wrong, and change the line so that the next reading gets past it."""
    number = getattr(error, "lineno", None)
    if isinstance(error, configparser.DuplicateSectionError):
        assert number is not None, "read_string always knows the line"
        reading.lines[number - 1] = f"[{error.section}\0{number}]"
        problem = f"section [{error.section}] stands there a second time; put its keys into one"
    elif isinstance(error, configparser.DuplicateOptionError):
        assert number is not None, "read_string always knows the line"
        section = error.section.partition("\0")[0]
        reading.lines[number - 1] = ""
        problem = f"key {error.option!r} stands there a second time in [{section}]; keep one of them"
    elif isinstance(error, configparser.MissingSectionHeaderError):
        problem = f"{shown(reading.lines[error.lineno - 1])} stands before any section"
        reading.lines[error.lineno - 1] = ""
    elif isinstance(error, configparser.ParsingError):
        _drop_unreadable(reading, [line for line, _ in error.errors])
        return
    else:
        raise ConfigurationError(*reading.problems, f"{reading.name} cannot be read: {error}") from error
    reading.problems.append(f"line {number} of {reading.name}: {problem}")


def _drop_unreadable(reading: _Reading, numbers: list[int]) -> None:
    for number in numbers:
        if len(reading.problems) < _MOST_FAULTS:
            line = shown(reading.lines[number - 1])
            reading.problems.append(
                f"line {number} of {reading.name}: {line} is no 'key = value', no [Section] and no # comment"
            )
        reading.lines[number - 1] = ""


def _entry(parser: configparser.ConfigParser, reading: _Reading, name: str, key: str) -> Entry | None:
    """Interpolate one value; a reference that leads nowhere is a problem and gives no entry."""
    section = name.partition("\0")[0]
    raw = parser.get(name, key, raw=True)
    try:
        value = parser.get(name, key)
    except configparser.InterpolationMissingOptionError as error:
        known = ", ".join(f"${{Paths:{option}}}" for option in _paths(parser)) or "no key in [Paths]"
        problem = f"${{{error.reference}}} refers to nothing; there is {known}"
    except configparser.InterpolationDepthError:
        problem = "it refers to itself, or through too many others"
    except configparser.InterpolationError:
        problem = "a reference is written ${Paths:name}, and a dollar sign itself $$"
    else:
        # The rest of a value over several lines is one value where it is a list, as an axis is.
        value = re.sub(r",[ \t]*\n[ \t]*", ", ", value)
        return Entry(section, key, value, label(key, value, section, reading.name))
    reading.problems.append(f"{label(key, raw, section, reading.name)}: {problem}")
    return None


def _paths(parser: configparser.ConfigParser) -> list[str]:
    return list(parser[PATHS]) if parser.has_section(PATHS) else []
