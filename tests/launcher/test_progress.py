"""What a launch tells of its trials where nobody sees a table: a line for each that ended, however it ended."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from launcher import grid, progress, show, start
from launcher.config import ConfigurationError
from launcher.places import Place
from launcher.progress import Board
from tests.launcher.studies import finished, study

TRIALS = study("reduction=sum,mean", "seed=1,2").trials()
NAMES = [trial.trial_id for trial in TRIALS]
PRUNED = {"status": "pruned", "updates": 33, "nll_per_label": 3.25}
FAILED = {"status": "failed", "error": "ValueError: no"}


def console(*, terminal: bool = False) -> Console:
    return Console(stderr=True, width=200, force_terminal=terminal, color_system=None)


def test_every_trial_that_ends_has_its_line_and_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with Board(TRIALS, {name: {"status": "pending"} for name in NAMES}, console()) as board:
        for name, row in zip(NAMES, (PRUNED, FAILED, {"status": "interrupted"}, finished())):
            board.started(name)
            board.finished(name, row)
    assert capsys.readouterr().err.splitlines() == [
        f"[1/4] {NAMES[0]}: pruned at update 33, behind others: NLL/label 3.250",
        f"[2/4] {NAMES[1]}: failed: ValueError: no",
        f"[3/4] {NAMES[3]}: done, WER 50.0 %, CER 25.0 %, NLL/label 1.000, 0:20",
    ]
    assert board.unfinished == 1


def test_the_table_of_a_terminal_counts_pruned_trials(capsys: pytest.CaptureFixture[str]) -> None:
    rows: dict[str, dict[str, Any]] = {name: {"status": "pending"} for name in NAMES}
    board = Board(TRIALS, rows, console())
    assert "0 of 4 trials done, 0 failed, 0:00" in str(board.table().title)
    board = Board(TRIALS, {**rows, NAMES[0]: PRUNED, NAMES[1]: FAILED}, console())
    assert "0 of 4 trials done, 1 failed, 1 pruned, 0:00" in str(board.table().title)


def test_a_trial_that_ended_before_and_runs_again_is_to_come() -> None:
    """Else the first to end would be told as the last, and machines would be waited for by nobody."""
    rows: dict[str, dict[str, Any]] = dict(zip(NAMES, (PRUNED, FAILED, finished(), {"status": "interrupted"})))
    jobs = [{"trial_id": name} for name in (NAMES[0], NAMES[1], NAMES[3])]
    placing = grid.Request("losses", "").placing
    order = start.Order(TRIALS, rows, jobs, "", placing, Place(Path("out")), Path("stop"), 80)
    shown = start.shown(order)
    assert [shown[name]["status"] for name in NAMES] == ["pending", "pending", "done", "interrupted"]
    assert Board(TRIALS, shown, console()).unfinished == 3
    one = dataclasses.replace(order, jobs=jobs[:1])
    assert start.shown(one)[NAMES[1]] == FAILED


def told_before(status: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], **asked: bool) -> str:
    rows: dict[str, dict[str, Any]] = {name: {"status": "pending"} for name in NAMES} | {NAMES[0]: {"status": status}}
    grid._todo(TRIALS, rows, (), Place(tmp_path), grid.Request("losses", "", **asked), console())
    return capsys.readouterr().err.strip()


def test_what_is_neither_done_nor_to_run_is_told_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = "4 trials: 0 done, 3 to run; 1 pruned before (without --early-stopping they go on)"
    assert told_before("pruned", tmp_path, capsys, early_stopping=True) == before
    assert told_before("pruned", tmp_path, capsys) == "4 trials: 0 done, 4 to run"
    before = "4 trials: 0 done, 3 to run; 1 failed before (--retry-failed runs them again)"
    assert told_before("failed", tmp_path, capsys) == before


def test_at_the_end_pruned_trials_are_named_with_what_trains_them_to_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"sum-s{number}" for number in range(13)]
    frame = pd.DataFrame({"trial_id": names, "status": "pruned", "error": None})
    show.shortfalls(frame.iloc[:2], console())
    told = (
        "pruned, as others were ahead: sum-s0, sum-s1; the same command without --early-stopping trains them to the end"
    )
    assert capsys.readouterr().err.strip() == told
    show.shortfalls(frame, console())
    assert "sum-s9, and 3 more; the same command" in capsys.readouterr().err
    show.shortfalls(frame.assign(status="done"), console())
    assert capsys.readouterr().err == ""


def test_a_pruned_trial_that_was_never_scored_is_told_too() -> None:
    assert "update ?, behind others: NLL/label ?" in progress.outcome({"status": "pruned", "nll_per_label": None})


def test_the_command_that_goes_on_does_not_begin_again() -> None:
    told = grid._going_on("python launch.py --grid losses --fresh --out 'a folder' --set reduction=mean")
    assert told == "python launch.py --grid losses --out 'a folder' --set reduction=mean"


def test_early_stopping_of_what_is_not_scored_is_refused_before_anything_is_set_aside() -> None:
    asked = grid.Request("losses", "", overrides=("eval_strategy=no",), early_stopping=True, fresh=True)
    with pytest.raises(ConfigurationError, match="--early-stopping compares scores of trials that train"):
        grid.plan(asked, console())
