"""Ctrl-C once asks for the end, twice makes it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def two_interrupts(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` at the first Ctrl-C within the block: running trials finish their checkpoints.

    Raises:
        KeyboardInterrupt: at the second.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt
        asked = True
        ask()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
