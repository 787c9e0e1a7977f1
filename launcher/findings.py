"""What `doctor` finds: one finding says how a thing stands and, where it is not well, what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

OK, WARNING, FAULT = "ok", "warning", "fault"
_LONGEST = 400  # characters of an error that somebody else wrote


@dataclass(frozen=True)
class Finding:
    """How one thing stands.

    Attributes:
        level: "ok"; "warning": a study runs, and something is lost or slow; "fault": a study would stop.
        about: the thing, in a word or two.
        text: how it stands.
        advice: what to do about it; "" where it is well, or where the text says it.
    """

    level: str
    about: str
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        about: the thing, in a word or two.
        look: finds how it stands.
        broken: level of the finding when `look` raises.
        shows_progress: `look` draws a bar of its own (older versions of rich draw one thing at a time).
    """

    about: str
    look: Callable[[], Iterable[Finding]]
    broken: str = WARNING
    shows_progress: bool = False


def carry_out(checks: Iterable[Check]) -> Iterator[Finding]:
    """Look at one thing after the other; an error on the way is a finding, and what follows is still looked at."""
    for check in checks:
        try:
            yield from check.look()
        except Exception as error:
            yield told(check, error)


def told(check: Check, error: Exception) -> Finding:
    """Say that a check could not be carried out, and why."""
    if getattr(error, "is_request_error", False):
        return Finding(check.broken, check.about, str(error))  # our own messages end in what to do
    text = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
    return Finding(check.broken, check.about, f"could not be looked at: {text}", "look at this error first")
