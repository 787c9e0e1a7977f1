"""What a launch makes of the end of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from launcher.following import Follower
from launcher.places import Place
from launcher.progress import Board
from tests.launcher.studies import ONE_ATTEMPT, finished, put, study

TRIALS = study("reduction=sum,mean", "seed=1").trials()
ONE, OTHER = (trial.trial_id for trial in TRIALS)
ENDS = {
    "done": {"result": finished()},
    "pruned": {"pruned": {"status": "pruned", "updates": 3}},
    "interrupted": {"attempts": ONE_ATTEMPT},
    "failed": {"failure": {"error": "Diverged: at update 3"}},
}


def ended(out: Path, files: Mapping[str, Any], *, fail_fast: bool) -> Follower:
    """Follow a trial to its end."""
    folder = put(out, ONE, **files)
    board = Board(TRIALS, {name: {"status": "running"} for name in (ONE, OTHER)}, Console(stderr=True, width=200))
    following = Follower(out / ".stop-1", fail_fast, board, {ONE: folder}, None, Place(out))
    following.on_trial_complete(1, [], SimpleNamespace(config={"trial_id": ONE}))
    return following


@pytest.mark.parametrize(("end", "files"), ENDS.items())
@pytest.mark.parametrize("fail_fast", [False, True])
def test_fail_fast_stops_the_others_at_a_failure_and_at_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: str, files: Mapping[str, Any], fail_fast: bool
) -> None:
    following = ended(tmp_path, files, fail_fast=fail_fast)
    stops = fail_fast and end == "failed"
    assert (tmp_path / ".stop-1").exists() is stops
    why = (
        f"stopping, as {ONE} failed (--fail-fast): running trials finish their checkpoints (Ctrl-C twice stops at once)"
    )
    assert (why in capsys.readouterr().err.splitlines()) is stops
    assert not following.interrupted, "nobody asked for the end"


def test_fail_fast_hears_of_a_trial_that_tune_gave_up(tmp_path: Path) -> None:
    put(tmp_path, ONE)
    following = ended(tmp_path, {}, fail_fast=True)
    assert not (tmp_path / ".stop-1").exists()
    following.on_trial_error(1, [], SimpleNamespace(config={"trial_id": ONE}))
    assert (tmp_path / ".stop-1").exists()
