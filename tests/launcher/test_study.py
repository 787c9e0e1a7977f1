from __future__ import annotations

import pytest

from launcher import config
from launcher.config import Configuration, ConfigurationError
from launcher.study import Study, grid
from search_spaces import losses


def study(*overrides: str, data: str = "fingerprint") -> Study:
    return losses.study(load(*overrides)).with_data(data)


def load(*overrides: str) -> Configuration:
    return config.load(None, overrides, defaults=losses.DEFAULTS)


def ids(*overrides: str, data: str = "fingerprint") -> list[str]:
    return [trial.trial_id for trial in study(*overrides, data=data).trials()]


def test_the_default_grid_is_four_reductions_by_two_seeds() -> None:
    trials = study().trials()
    assert [(trial.axes["reduction"], trial.seed) for trial in trials] == [
        (reduction, seed) for reduction in ("sum", "mean", "utterance_mean", "token_mean") for seed in (1, 2)
    ]
    assert len({trial.trial_id for trial in trials}) == 8
    assert trials[0].variant == "reduction=sum"
    assert trials[0].trial_id.startswith("sum-s1-")


def test_adding_a_seed_or_a_reduction_adds_only_its_trials() -> None:
    assert set(ids("seed=1,2,3")) > set(ids())
    assert set(ids("reduction=sum,mean")) < set(ids())


@pytest.mark.parametrize(
    "override",
    [
        "per_device_eval_batch_size=3", "logging_steps=7", "save_strategy=no", "dataloader_num_workers=2",
        "tensorboard=False", "save_model=False", "micro_batch_seconds=9", "dataset_path=elsewhere.csv",
    ],
)  # fmt: skip
def test_what_cannot_change_a_result_does_not_change_the_id(override: str) -> None:
    assert ids(override) == ids()


def test_only_the_size_of_an_update_counts_and_not_its_layout() -> None:
    layouts = [("per_device_train_batch_size=8", "gradient_accumulation_steps=2"),
               ("per_device_train_batch_size=2", "gradient_accumulation_steps=8")]  # fmt: skip
    assert ids(*layouts[0]) == ids(*layouts[1])
    assert ids(*layouts[0]) != ids()


@pytest.mark.parametrize("override", ["learning_rate=0.5", "num_train_epochs=2", "hidden_dropout=0.1", "test_set=test"])
def test_what_can_change_a_result_changes_every_id(override: str) -> None:
    assert not set(ids(override)) & set(ids())


def test_another_axis_finds_the_trials_again() -> None:
    assert set(ids("learning_rate=0.006,0.001")) > set(ids())


def test_other_data_are_other_trials() -> None:
    assert not set(ids(data="other")) & set(ids())


def test_the_resolved_configuration_of_a_trial_written_to_a_file_gives_the_same_trial(tmp_path) -> None:
    trial = study().trials()[3]
    path = tmp_path / "trial.conf"
    path.write_text(trial.configuration.to_conf(), encoding="utf-8")
    (again,) = losses.study(config.load(path)).with_data("fingerprint").trials()
    assert again.trial_id.rpartition("-")[2] == trial.trial_id.rpartition("-")[2]


def test_conditional_cells_can_be_left_out() -> None:
    cells = grid(load(), keep=lambda cell: cell["Model Configuration.reduction"] != "sum")
    assert len(cells) == 6


def test_the_baseline_is_named_by_its_value_or_its_variant() -> None:
    assert study().baseline_variant() == "reduction=mean"
    assert study("baseline=reduction=sum").baseline_variant() == "reduction=sum"
    assert study("reduction=sum,token_mean").baseline_variant() is None


@pytest.mark.parametrize(
    ("override", "message"),
    [("reduction=meen", "did you mean 'mean'"), ("model_type=huge", "choose one of: base, tiny")],
)
def test_a_name_that_does_not_exist_is_told_before_anything_runs(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(override)


def test_the_same_trial_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        ids("learning_rate=0.001,1e-3")
