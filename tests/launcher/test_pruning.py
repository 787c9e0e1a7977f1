"""Early stopping: who is behind, at which part of the training, and what earlier launches saw."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from ray.tune.schedulers import ASHAScheduler

from launcher import pruning
from launcher.config import ConfigurationError
from launcher.pruning import Pruner
from tests.launcher.studies import study


@pytest.fixture
def pruner() -> Pruner:
    rule = ASHAScheduler(
        time_attr="percent", metric="nll_per_label", mode="min", max_t=100, grace_period=11, reduction_factor=3,
        stop_last_trials=False,
    )  # fmt: skip
    return Pruner(rule)


def scores(loss: float | None, update: int, updates: int = 100) -> dict[str, float | None]:
    return {"nll_per_label": loss, "update": update, "updates": updates}


def test_the_worse_of_two_ends_and_the_better_goes_on(pruner: Pruner) -> None:
    assert not pruner.is_behind("a", scores(1.0, 20))
    assert pruner.is_behind("b", scores(2.0, 20))
    assert not pruner.is_behind("c", scores(0.5, 20))


def test_nobody_is_judged_before_a_ninth_of_the_training(pruner: Pruner) -> None:
    pruner.is_behind("a", scores(1.0, 10))
    assert not pruner.is_behind("b", scores(9.0, 10))


def test_trials_of_other_lengths_are_compared_at_the_same_part(pruner: Pruner) -> None:
    pruner.is_behind("short", scores(1.0, 4, 10))
    assert not pruner.is_behind("long", scores(9.0, 40, 1000))
    assert pruner.is_behind("long", scores(9.0, 400, 1000))


def test_a_trial_that_is_at_its_end_is_not_pruned(pruner: Pruner) -> None:
    pruner.is_behind("a", scores(1.0, 100))
    assert not pruner.is_behind("b", scores(9.0, 100))


def test_what_is_no_evaluation_decides_nothing(pruner: Pruner) -> None:
    pruner.is_behind("a", scores(1.0, 50))
    assert not pruner.is_behind("b", {"status": "HALT"})
    assert not pruner.is_behind("b", scores(None, 50))


@pytest.mark.parametrize("total", ["progress.json", "result.json"])
def test_what_earlier_launches_measured_counts(pruner: Pruner, tmp_path: Path, total: str) -> None:
    folder = tmp_path / "before"
    folder.mkdir()
    pruner.replay(folder)  # nothing is there yet
    history = pa.table({"update": [10, 20], "eval_nll_per_label": pa.array([None, 1.0])})
    pyarrow.parquet.write_table(history, folder / "history.parquet")
    (folder / total).write_text(json.dumps({"updates": 100}))
    pruner.replay(folder)
    assert pruner.is_behind("now", scores(2.0, 20))


@pytest.mark.parametrize("key", ["eval_strategy=no", "do_train=False"])
def test_early_stopping_of_trials_that_are_not_scored_while_they_train_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--early-stopping compares scores .* {key.replace('=', ' = ')}"):
        pruning.check(study(key).trials())
    pruning.check(study().trials())
