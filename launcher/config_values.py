"""How one value is written in an experiment file or after `--set`: quotes, lists, ranges, paths. Pure text.

Reading and writing are inverse: what `write_text` writes, `read_text` reads back to the same words.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_OPENING = {"(": ")", "[": "]", "{": "}"}
# Inside brackets a value begins after one of these.
_VALUE_FOLLOWS = "([{,:"
_RANGE = re.compile(r"([+-]?[0-9]{1,18})\.\.([+-]?[0-9]{1,18})")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
# An axis of more values than this is a slip of the keyboard, and every value becomes trials.
_MOST_VALUES = 10_000


class ConfigurationError(ValueError):
    """What is wrong with a configuration: every problem found, one per line.

    Attributes:
        problems: the single messages, in the order in which they were found.
    """

    is_request_error = True

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems: tuple[str, ...] = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class Text(NamedTuple):
    """Words, and whether they stood in quotes (then they are a text, whatever they look like)."""

    words: str
    quoted: bool


def shown(value: object, limit: int = 80) -> str:
    """Return `repr` of a value, cut in the middle when it is long, for a message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 20]}...{text[-17:]}"


def short(name: str, limit: int = 60) -> str:
    """Return a name, cut when it is too long for a message."""
    return name if len(name) <= limit else f"{name[:limit]}..."


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is spelt most like the word, or None when none is near."""
    return next(iter(difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)), None)


def is_none(words: str) -> bool:
    """Return whether unquoted words mean "no value"."""
    return words in ("None", "none")


def read_text(raw: str, *, literal: bool = False) -> Text:
    r"""Read one value: strip quotes, expand a leading `~` or `../` where there are none.

    A path that starts with `../` is taken from the current folder, as every other relative path is. Quoted
    words are taken as they stand, except that `\u0023` is the character with that code.

    Args:
        raw: the text as written.
        literal: take the text as if it stood in quotes.

    Raises:
        ValueError: the text cannot be written to a UTF-8 file, or goes on over several lines.
    """
    text = Text(raw, quoted=True) if literal else _unquote(raw.strip())
    try:
        text.words.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("it holds a character that UTF-8 cannot write") from error
    if "\0" in text.words:
        raise ValueError("it holds a NUL character")
    if "\n" in text.words and not text.quoted:
        raise ValueError("it goes on over several lines; write it in one, and do not indent the line of another key")
    return text if text.quoted else Text(expand_path(text.words), quoted=False)


def read_list(raw: str) -> list[str]:
    """Read a list of words: in brackets, or only separated by commas; one word alone is a list too.

    Raises:
        ValueError: a value is missing or None, or a bracket or quote is not closed.
    """
    words = raw.strip()
    if words.startswith("[") and words.endswith("]"):
        words = words[1:-1].strip()
    items = [read_text(item) for item in split_values(words)] if words else []
    if any(is_none(item.words) and not item.quoted for item in items):
        raise ValueError("None stands for no value, so it cannot be part of a list")
    if not all(item.words for item in items):
        raise ValueError("a value is missing")
    return [item.words for item in items]


def expand_path(words: str) -> str:
    """Make a leading `~` the home folder, and a path that starts with `../` absolute; leave anything else."""
    if words.startswith("~"):
        return os.path.expanduser(words)
    return os.path.realpath(words) if words.startswith("../") else words


def write_text(words: str) -> str:
    """Write words in quotes so that configparser, `split_values` and `read_text` give the same words back."""
    return '"' + "".join(_escaped(words)) + '"'


def split_values(text: str) -> list[str]:
    """Split a list at the commas outside brackets and quotes, and expand ranges of whole numbers.

    `sum, power(alpha=0.25), capped(limit=3)` has three values, `2022..2026` five. A last comma is ignored.

    Raises:
        ConfigurationError: a value is empty, a bracket or a quote is not closed, or a range is no range.
    """
    parts = [part.strip() for part in _split(text)]
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if not all(parts):
        raise ConfigurationError(f"a value is missing in {shown(text)}; separate values by single commas")
    return [value for part in parts for value in _expand_range(part)]


def _split(text: str) -> Iterator[str]:
    """Yield the parts between the commas at depth 0."""
    start, expected, in_quotes, before = 0, [], False, ","
    for index, character in enumerate(text):
        # A quote opens only at the start of a value, also inside brackets: one inside a word is a character.
        if character == '"' and (in_quotes or before in (_VALUE_FOLLOWS if expected else ",")):
            in_quotes = not in_quotes
        elif in_quotes:
            continue
        elif character in _OPENING:
            expected.append(_OPENING[character])
        elif character in _OPENING.values():
            if not expected or expected.pop() != character:
                raise ConfigurationError(f"{character!r} closes no bracket in {shown(text)}")
        elif character == "," and not expected:
            yield text[start:index]
            start = index + 1
        before = before if character.isspace() else character
    if expected or in_quotes:
        raise ConfigurationError(f"{expected[-1] if expected else chr(34)!r} is missing in {shown(text)}")
    yield text[start:]


def _expand_range(part: str) -> list[str]:
    match = _RANGE.fullmatch(part)
    if match is None:
        return [part]
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < _MOST_VALUES:
        raise ConfigurationError(
            f"the range {part!r} has {max(last - first + 1, 0)} values; 1 to {_MOST_VALUES} are allowed"
        )
    return [str(value) for value in range(first, last + 1)]


def _unquote(text: str) -> Text:
    mark = text[:1]
    if len(text) < 2 or mark not in ("'", '"') or text[-1] != mark or mark in text[1:-1]:
        return Text(text, quoted=False)
    return Text(_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text[1:-1]), quoted=True)


def _escaped(words: str) -> Iterator[str]:
    r"""Yield the characters, those with a meaning in the file as `\uXXXX`.

    '#' and ';' start a comment even inside quotes, '$' an interpolation, and configparser strips white space.
    """
    for index, character in enumerate(words):
        escape = character in "\"'#;$" or (not character.isprintable() and ord(character) <= 0xFFFF)
        if escape or (character == "\\" and words[index + 1 : index + 2] == "u"):
            yield f"\\u{ord(character):04x}"
        else:
            yield character
