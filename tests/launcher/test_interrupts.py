"""Ctrl-C once asks, twice ends."""

from __future__ import annotations

import signal

import pytest

from launcher.interrupts import two_interrupts


def test_the_first_asks_the_second_ends_and_afterwards_it_means_what_it_meant_before() -> None:
    asked, before = [], signal.getsignal(signal.SIGINT)
    with two_interrupts(lambda: asked.append(True)):
        signal.raise_signal(signal.SIGINT)
        assert asked == [True]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert asked == [True]
    assert signal.getsignal(signal.SIGINT) is before
