"""Which trials a launch hands out again once Ray has broken down."""

from __future__ import annotations

import pytest

from launcher import start


@pytest.mark.parametrize(
    ("status", "attempts", "ended"),
    [
        ("done", 1, True),
        ("failed", 1, False),  # before this launch, which is to try it again and has not come to it
        ("failed", 2, True),
        ("pruned", 1, False),
        ("interrupted", 2, False),
        ("pending", 0, False),
    ],
)
def test_what_failed_before_this_launch_has_not_ended_in_it(status: str, attempts: int, ended: bool) -> None:
    assert start._has_ended({"status": status, "attempts": attempts}, 1) is ended
