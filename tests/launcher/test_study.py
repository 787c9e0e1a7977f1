from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from launcher import config
from launcher.config import Configuration, ConfigurationError
from launcher.identity import what_matters
from launcher.study import Study, grid, named_values
from search_spaces import audit, losses, paradigms


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
        "save_results=elsewhere", "audit=False", "audit_exact=5", "do_train=True", "early_stopping=0",
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
    [("reduction=meen", "did you mean 'mean'"), ("model_type=huge", "choose one of: base, multitask")],
)
def test_a_name_that_does_not_exist_is_told_before_anything_runs(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(override)


def test_the_same_trial_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        ids("learning_rate=0.001,1e-3")


def test_a_trial_that_only_measures_is_the_same_whatever_the_recipe_of_training() -> None:
    assert ids("do_train=False", "learning_rate=0.5", "num_train_epochs=2") == ids("do_train=False")
    assert not set(ids("do_train=False")) & set(ids())
    assert not set(ids("do_train=False", "audit_exact=5")) & set(ids("do_train=False"))


def test_a_local_checkpoint_counts_by_its_content_not_by_its_path() -> None:
    def named(path: str, content: str) -> list[str]:
        made = losses.study(load(f"load_model={path}")).with_data("data", {path: content})
        return [trial.trial_id for trial in made.trials()]

    assert named("/a/model", "one") == named("/b/model", "one")
    assert not set(named("/a/model", "one")) & set(named("/a/model", "two"))


def test_scoring_two_splits_together_splits_the_scores_too() -> None:
    assert losses.study(load("test_set=both", "do_train=False")).groups == ("group", "speaker_type", "split")


def test_a_list_is_an_axis_whose_values_a_person_can_read() -> None:
    made = losses.study(load("reduction=mean", "seed=1", 'filter_datasets=[],["torgo"],["torgo", "sap"]'))
    assert [trial.axes["filter_datasets"] for trial in made.trials()] == ["none", "torgo", "sap, torgo"]


def test_paradigms_varies_a_key_only_for_the_models_that_act_on_it() -> None:
    overrides = ("seed=1", "reduction=mean", "domaincls_loc=encoder,final")
    made = paradigms.study(config.load(None, overrides, defaults=paradigms.DEFAULTS))
    cells = [(cell.model.model_type, cell.model.domaincls_loc) for cell in made.configurations]
    assert cells == [("tiny", None), ("multitask", None), ("multitask_aux", "encoder"), ("multitask_aux", "final")]
    assert len({trial.trial_id for trial in made.with_data("data").trials()}) == 4


def test_with_a_checkpoint_the_plain_paradigm_is_base() -> None:
    overrides = ("seed=1", "reduction=mean", "pretrained_model_name=/models/x")
    made = paradigms.study(config.load(None, overrides, defaults=paradigms.DEFAULTS))
    assert [cell.model.model_type for cell in made.configurations] == ["base", "multitask", "multitask_aux"]


@pytest.mark.parametrize(
    ("overrides", "baseline"),
    [
        ((), "model_type=tiny, reduction=mean"),
        (("model_type=multitask,tiny", "pretrained_model_name=/models/x"), "model_type=base, reduction=mean"),
        (("model_type=multitask,tiny", "load_model=/models/x"), "model_type=base, reduction=mean"),
        (("pretrained_model_name=/models/x", "model_type=multitask,tiny", "baseline=tiny", "reduction=mean"), "model_type=base"),
        (("pretrained_model_name=/models/x", "baseline=model_type=multitask, reduction=mean"), "model_type=multitask, reduction=mean"),
        (("model_type=multitask,tiny", "reduction=mean"), "model_type=tiny"),
        (("domaincls_loc=encoder,final",), "model_type=tiny, reduction=mean, domaincls_loc=None"),
        (("model_type=multitask,tiny", "load_model=None,/models/x"), "model_type=tiny, reduction=mean, load_model=None"),
        (("pretrained_model_name=/models/x,/models/y",), None),
    ],
)  # fmt: skip
def test_the_baseline_of_paradigms_is_the_plain_model_however_its_cells_are_settled(overrides, baseline) -> None:
    made = paradigms.study(config.load(None, overrides, defaults=paradigms.DEFAULTS))
    assert made.baseline_variant() == baseline


def test_the_parameters_of_a_reduction_belong_to_its_value() -> None:
    assert named_values("model_type=tiny, reduction=ctc_dro(a=1, b=2), Study.x=3") == {
        "model_type": "tiny", "reduction": "ctc_dro(a=1, b=2)", "Study.x": "3",
    }  # fmt: skip
    assert named_values("mean") == {}


def test_an_audit_trains_nothing_whatever_the_file_says() -> None:
    made = audit.study(config.load(None, ("do_train=True",), defaults=audit.DEFAULTS))
    assert [cell.trainer_arguments["do_train"] for cell in made.configurations] == [False]


@pytest.mark.parametrize(
    ("overrides", "variants"),
    [
        ((), ["model_type=tiny"]),
        (("load_model=/a/model",), ["load_model=/a/model"]),
        (("model_type=base", "pretrained_model_name=/b"), ["pretrained_model_name=/b"]),
        (("load_model=/a/model,/b/model",), ["load_model=/a/model", "load_model=/b/model"]),
    ],
)
def test_what_is_only_measured_is_named_by_its_model_and_its_trials_stay_what_they_are(overrides, variants) -> None:
    trials = audit.study(config.load(None, overrides, defaults=audit.DEFAULTS)).trials()
    assert [trial.variant for trial in trials] == variants
    assert all(trial.trial_id.startswith("mean-s1-") for trial in trials)


def test_a_run_is_named_by_the_end_of_a_path_which_tells_models_apart() -> None:
    folders = [
        f"/data/of/a/laboratory/with/long/names/studies/first/trials/{name}/model" for name in ("sum-s1", "mean-s1")
    ]
    made = audit.study(config.load(None, [f"load_model={','.join(folders)}"], defaults=audit.DEFAULTS))
    names = [trial.run_name.rpartition("-")[0] for trial in made.trials()]
    assert names == ["load_model=trials_sum_s1_model-s1", "load_model=trials_mean_s1_model-s1"]


def test_what_is_off_and_what_is_left_to_the_model_are_two_things() -> None:
    assert not set(ids("exact_length_evaluation=False")) & set(ids())
    assert not set(ids("exact_length_evaluation=False")) & set(ids("exact_length_evaluation=True"))


def test_the_micro_batch_counts_where_stock_mean_is_measured() -> None:
    assert ids("do_train=False", "per_device_train_batch_size=4") != ids("do_train=False")


def test_how_often_a_stopping_trial_is_evaluated_counts_however_it_is_written() -> None:
    stopping = ("load_best_model_at_end=True", "eval_strategy=steps", "save_strategy=steps", "save_steps=4")
    assert ids(*stopping, "logging_steps=2") != ids(*stopping, "logging_steps=4")
    assert ids(*stopping, "logging_steps=2") == ids(*stopping, "logging_steps=2", "eval_steps=2")


def test_further_runs_are_of_the_baselines_first_seed_come_last_and_leave_all_other_ids() -> None:
    plain, repeated = study().trials(), dataclasses.replace(study(), runs=3).trials()
    assert repeated[: len(plain)] == plain
    first = next(trial for trial in plain if trial.variant == "reduction=mean")
    for repeat, trial in enumerate(repeated[len(plain) :], start=1):
        assert trial.trial_id.startswith(f"mean-s1-r{repeat}-")
        assert trial.identity == {**first.identity, "repeat": repeat}
        assert dataclasses.replace(
            trial, trial_id=first.trial_id, run_name=first.run_name, identity=first.identity, repeat=0
        ) == first  # fmt: skip
    assert len({trial.trial_id for trial in repeated}) == len({trial.run_name for trial in repeated}) == len(plain) + 2


def test_without_a_baseline_the_first_trial_is_run_again() -> None:
    repeated = dataclasses.replace(study("reduction=sum,token_mean"), runs=2).trials()
    assert [trial.variant for trial in repeated if trial.repeat] == ["reduction=sum"]


def test_the_id_is_the_hash_of_the_identity() -> None:
    for trial in dataclasses.replace(study(), runs=2).trials():
        text = json.dumps(trial.identity, sort_keys=True)
        assert trial.trial_id.endswith(hashlib.sha256(text.encode()).hexdigest()[:8])


@pytest.mark.parametrize("filter_", ["filter_datasets=torgo", "filter_controls=True"])
def test_trials_that_leave_out_corpora_by_whole_names_are_not_those_that_did_so_by_beginnings(filter_: str) -> None:
    plain, filtered = (load("reduction=mean", "seed=1", *more) for more in ((), (filter_,)))
    assert "names" not in what_matters(plain)["Training Configuration"]
    assert what_matters(filtered)["Training Configuration"]["names"] == "whole"


def test_models_that_may_have_no_attention_mask_are_marked_as_normalised_without_padding() -> None:
    plain, base = load("reduction=mean", "seed=1"), load("reduction=mean", "seed=1", "model_type=base")
    assert "normalised" not in what_matters(plain)["Model Configuration"]
    assert what_matters(base)["Model Configuration"]["normalised"] == "without padding"
