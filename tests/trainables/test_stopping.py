"""When a trial that is to stop does so: behind a checkpoint that an undisturbed one could have, written once."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState

from trainables.callbacks import EarlyStopping, StopOnRequest


@pytest.fixture
def stop(tmp_path: Path) -> StopOnRequest:
    (tmp_path / "stop").touch()
    return StopOnRequest(tmp_path / "stop", tmp_path, torch.device("cpu"), 5)


def arguments(*, best: bool = False) -> Any:
    return SimpleNamespace(load_best_model_at_end=best)


def at(update: int) -> TrainerState:
    return TrainerState(global_step=update, max_steps=20)


@pytest.mark.parametrize(
    ("scores", "over"),
    [
        ([math.nan, 3.0, 2.0, 1.0], False),
        ([3.0, math.nan, 2.0], False),
        ([1.0, math.nan, 2.0], True),
        ([math.nan] * 3, True),
        ([1.0, 2.0, 3.0], True),
    ],
)
def test_a_score_that_is_no_number_is_not_the_best(scores: list[float], over: bool) -> None:
    assert EarlyStopping(2, "eval_wer").is_over([{"eval_wer": score} for score in scores]) is over


def test_a_checkpoint_that_is_there_is_not_written_again(stop: StopOnRequest) -> None:
    control = TrainerControl()
    stop.on_save(arguments(), at(5), control)
    stop.on_epoch_end(arguments(), at(5), control)
    assert (control.should_training_stop, control.should_save) == (True, False)


def test_a_trial_saves_where_it_stops(stop: StopOnRequest) -> None:
    control = TrainerControl()
    stop.on_save(arguments(), at(2), control)
    stop.on_step_end(arguments(), at(3), control)
    assert (control.should_training_stop, control.should_save) == (True, True)


@pytest.mark.parametrize(("best", "saves", "stops"), [(True, False, False), (True, True, True), (False, False, True)])
def test_no_evaluation_becomes_the_best_because_the_trial_was_stopped_there(stop, best, saves, stops) -> None:
    control = TrainerControl(should_evaluate=True, should_save=saves)
    stop.on_step_end(arguments(best=best), at(3), control)
    assert control.should_training_stop is stops


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        (["drain.json"], (False, True)),
        (["drain.json", "prune"], (True, False)),  # for good, wherever it is
        (["drain.json", "stop"], (False, False)),  # the study ends: nothing is to go on elsewhere
        (["prune", "stop"], (False, False)),
        (["prune"], (True, False)),
    ],
)
def test_of_several_wishes_the_one_that_ends_most_is_followed(tmp_path: Path, wishes: list[str], why) -> None:
    stop, control = StopOnRequest(tmp_path / "stop", tmp_path, torch.device("cpu"), 5), TrainerControl()
    for name in wishes:
        (tmp_path / name).touch()
    stop.on_step_end(arguments(), at(3), control)
    assert (control.should_training_stop, control.should_save) == (True, True)
    assert (stop.stopped, stop.pruned, stop.preempted) == (True, *why)
