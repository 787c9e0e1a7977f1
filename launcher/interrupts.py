"""What signals do: Ctrl-C once asks for the end, twice makes it, and what SIGTERM does stays what it was."""

from __future__ import annotations

import signal
import threading
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


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep what this process does at SIGTERM: `ray.init` makes an exit of it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
