"""The parameters of reductions: their ranges, and how they are read from and written as `power(alpha=0.25)`.

A reduction declares its parameters as keyword-only arguments annotated with a range of this module; `**weights` stands
for one parameter per group, named after it.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from trainables.errors import DataError


@dataclass(frozen=True)
class Range:
    """Which numbers a parameter may be: in words, and as a test (false for what is no number)."""

    words: str
    holds: Callable[[float], bool]


Finite = Annotated[float, Range("a finite number", math.isfinite)]
NonNegative = Annotated[float, Range("a finite number of at least 0", lambda value: 0 <= value < math.inf)]
Positive = Annotated[float, Range("a finite number above 0", lambda value: 0 < value < math.inf)]
PositiveOrInfinite = Annotated[float, Range("a number above 0, or inf", lambda value: value > 0)]
Fraction = Annotated[float, Range("between 0 and 1, both excluded", lambda value: 0 < value < 1)]

_SEPARATOR = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')  # commas outside of quotes
_ARGUMENT = re.compile(r'^(?:"(?P<quoted>[^"]*)"|(?P<plain>[^"=]+?))\s*=(?P<value>[^=]*)$')
_PLAIN_NAME = re.compile(r'[^\s",=()](?:[^",=()]*[^\s",=()])?')


@dataclass(frozen=True)
class Signature:
    """What a reduction takes: named parameters with ranges and defaults, or one weight per group."""

    ranges: Mapping[str, Range]
    defaults: Mapping[str, float]
    per_group: Range | None

    def __str__(self) -> str:
        return "one weight per group, by its name" if self.per_group else ", ".join(self.ranges) or "no parameters"


def signature(function: Callable[..., Any]) -> Signature:
    """Read which parameters a reduction takes from its keyword-only arguments."""
    hints = typing.get_type_hints(function, include_extras=True)
    taken = inspect.signature(function).parameters.values()
    named = [parameter for parameter in taken if parameter.kind is parameter.KEYWORD_ONLY]
    open_ended = [parameter for parameter in taken if parameter.kind is parameter.VAR_KEYWORD]
    return Signature(
        ranges={parameter.name: _range(hints[parameter.name]) for parameter in named},
        defaults={parameter.name: parameter.default for parameter in named if parameter.default is not parameter.empty},
        per_group=_range(hints[open_ended[0].name]) if open_ended else None,
    )


def read(text: str, name: str, arguments: str, takes: Signature) -> dict[str, float]:
    """Read what stands in the brackets of a reduction.

    Args:
        text: the whole reduction as it was written, for messages.
        name: its name.
        arguments: what stands in the brackets; a group whose name holds a comma, bracket or = is quoted: `"a,b"=1`.
        takes: what it takes.

    Returns:
        the value of every parameter, in the order of the signature; of groups in the order given.

    Raises:
        DataError: something that is no `name=number`, an unknown, repeated or missing parameter, a value out of range.
    """
    given: dict[str, float] = {}
    for part in _SEPARATOR.split(arguments) if arguments.strip() else []:
        key, value = _pair(text, name, part, takes)
        limits = takes.per_group or takes.ranges.get(key)
        if limits is None:
            raise DataError(f"reduction {text!r}: unknown parameter {key!r}; {name} takes {takes}")
        if key in given:
            raise DataError(f"reduction {text!r} gives {key!r} twice; give it once")
        given[key] = _number(text, key, value, limits)
    if takes.per_group:
        if not given:
            raise DataError(f"reduction {text!r} needs the weight of every group, as in {_example(name, takes)}")
        return given
    for key in takes.ranges:
        if key not in given and key not in takes.defaults:
            raise DataError(f"reduction {text!r} needs {key}, as in {_example(name, takes)}")
    return {key: given[key] if key in given else float(takes.defaults[key]) for key in takes.ranges}


def write(name: str, parameters: Mapping[str, float]) -> str:
    """Write a reduction so that it reads back to the same numbers."""
    arguments = ", ".join(f"{_quoted(key)}={_shortest(value)}" for key, value in parameters.items())
    return f"{name}({arguments})" if arguments else name


def _range(hint: Any) -> Range:
    return next(extra for extra in typing.get_args(hint) if isinstance(extra, Range))


def _pair(text: str, name: str, part: str, takes: Signature) -> tuple[str, str]:
    match = _ARGUMENT.match(part.strip())
    if match is None:
        hint = f"write {_example(name, takes)}" if takes.ranges or takes.per_group else f"{name} takes {takes}"
        raise DataError(f"reduction {text!r}: {part.strip()!r} is no parameter=number; {hint}")
    key = match["quoted"] if match["quoted"] is not None else match["plain"].strip()
    return key, match["value"].strip()


def _number(text: str, key: str, value: str, limits: Range) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise DataError(f"reduction {text!r}: {key} must be a number, got {value!r}") from error
    if not limits.holds(number):
        raise DataError(f"reduction {text!r}: {key} must be {limits.words}, got {value}")
    return number


def _example(name: str, takes: Signature) -> str:
    if takes.per_group:
        return f"{name}(word=1.3, sentence=0.7)"
    return write(name, {key: takes.defaults.get(key, 0.5) for key in takes.ranges})


def _quoted(key: str) -> str:
    return key if _PLAIN_NAME.fullmatch(key) else f'"{key}"'


def _shortest(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
