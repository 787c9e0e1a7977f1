from __future__ import annotations

import pytest

from launcher import quantities


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (2_345_678, "2.35 MB"), (16.1e9, "16.1 GB"), (5e15, "5e+03 TB")],
)
def test_bytes_are_written_in_powers_of_a_thousand(count: float, text: str) -> None:
    assert quantities.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (720, "12 min"), (7200, "2.0 h"), (259_200, "3.0 days")]
)
def test_times_are_written_to_two_figures(seconds: float, text: str) -> None:
    assert quantities.span(seconds) == text
