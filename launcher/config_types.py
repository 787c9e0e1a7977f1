"""The types of the keys of lossgrid's own sections: what a value may be besides its plain type.

A type is an annotation for pydantic. What it refuses is half a sentence ("a number is needed"), for a message that
begins with the key and its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from launcher.config_values import expand_path

_LAYERS = ("extractor", "encoder", "final")


@dataclass(frozen=True)
class Off:
    """A mark on a type: False, out of quotes, means this value."""

    value: Any


def _no_truth(value: Any) -> Any:
    """Refuse True where a number is needed: Python would take it for 1."""
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


def _no_share(value: float | None) -> float | None:
    return value or None


def _listed(value: Any) -> Any:
    """Make a list of one value that stands alone."""
    return [value] if isinstance(value, (str, int, float)) else value


def _words(value: Any) -> Any:
    return () if value is None else _listed(value)


def _without_order(value: tuple[str, ...]) -> tuple[str, ...]:
    # These lists are sets: another order must not make another trial.
    return tuple(sorted(set(value)))


def _pair(value: Sequence[float] | None) -> tuple[float, float] | None:
    """Complete one weight to two that add up to 1."""
    if value is None:
        return None
    if len(value) == 1 and value[0] <= 1:
        return value[0], 1 - value[0]
    if len(value) != 2 or not any(value):
        raise ValueError("one number from 0 to 1, or two numbers [CTC, classifier] that are not both 0, are needed")
    return value[0], value[1]


def _layer(value: Any) -> Any:
    """Take the name of a layer, or a number from 1 on, also as text."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    is_number = isinstance(number, int) and not isinstance(number, bool) and 1 <= number < 10_000
    if value is None or value in _LAYERS or is_number:
        return number
    raise ValueError(f"{', '.join(_LAYERS)} or the number of a transformer layer (1 or more) is needed")


PathText = Annotated[str, AfterValidator(expand_path)]
FolderOrOff = Annotated[PathText | None, Off(None)]
Fraction = Annotated[float, Field(ge=0, le=1)]
#: A share of something; 0 and False mean that all of it is kept.
ShareOrOff = Annotated[Fraction | None, Off(None), BeforeValidator(_no_truth), AfterValidator(_no_share)]
Count = Annotated[int, Off(0), BeforeValidator(_no_truth), Field(ge=0)]
#: A set of words: written alone, with commas, or in brackets.
Words = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Off(()),
    BeforeValidator(_words),
    AfterValidator(_without_order),
]
#: Two or more weights, each above 0.
Weights = Annotated[
    Annotated[tuple[Annotated[float, BeforeValidator(_no_truth), Field(gt=0)], ...], Field(min_length=2)] | None,
    Off(None),
    BeforeValidator(_listed),
]
#: The weight of the CTC loss and that of the classifier; one number alone is the first of two that add up to 1.
WeightPair = Annotated[
    tuple[Annotated[float, BeforeValidator(_no_truth), Field(ge=0)], ...] | None,
    Off(None),
    BeforeValidator(_listed),
    AfterValidator(_pair),
]
Layer = Annotated[str | int | None, Off(None), BeforeValidator(_layer)]
NameOrOff = Annotated[str | None, Off(None)]
