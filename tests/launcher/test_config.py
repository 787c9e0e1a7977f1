"""Promises of launcher.config: what a file and an override mean, and the way back to a file."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import config_rules
from launcher.config import Configuration, ConfigurationError, load
from launcher.config_schema import MODEL, TRAINER, TRAINING

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "reference" / "losses_experiment.md"
# The original experiment's file, shortened, with its quirks: two delimiters, old and misspelt keys, keys in
# the wrong section, an inline comment, `~` and references.
ORIGINAL = """
[Paths]
data_dir: ~/thesis/data
model_name: debug

[Trainer Arguments]
output_dir = models/${Paths:model_name}
evaluation_strategy = epoch
learning_rate = 5e-4
train_batch_size = 3
eval_batch_size = 3
optim = adafactor
gradient_accumulation_steps = 400
num_train_epochs = 1
remove_unused_columns = False
# [Logging]
log_level = message
do_train = True
fp16 = False

[Training Configuration]
load_model = false
pretrained_model = facebook/wav2vec2-base-960h
model_type = multitask
dataset_path = ${Paths:data_dir}/dataset1
test_set = validation
generate_new_data = False
filter_contols = True
debug_dataset = True
save_results = results/${Paths:model_name}
raw_data_path = ${Paths:data_dir}/processed_data
tensorboard = false
early_stopping = 0 # 0 for no stopping n > 0 for stopping

[Model Configuration]
dataset_loss_weighting = None
ctc_zero_infinity = True
"""


def load_text(folder: Path, text: str, *overrides: str) -> Configuration:
    path = folder / "study.conf"
    path.write_text(text, encoding="utf-8")
    return load(path, overrides)


def problems_of(folder: Path, text: str, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_text(folder, text, *overrides)
    return caught.value.problems


def test_the_original_file_means_what_it_meant(tmp_path: Path) -> None:
    configuration = load_text(tmp_path, ORIGINAL)
    assert configuration.trainer_arguments == {
        "eval_strategy": "epoch",
        "learning_rate": 5e-4,
        "per_device_train_batch_size": 3,
        "per_device_eval_batch_size": 3,
        "optim": "adafactor",
        "gradient_accumulation_steps": 400,
        "num_train_epochs": 1.0,
        "log_level": "info",
        "do_train": True,
        "fp16": False,
    }
    assert configuration.update_size == 1200
    training = configuration.training
    assert training.dataset_path == str(Path("~/thesis/data/dataset1").expanduser())
    assert (training.load_model, training.save_results, training.tensorboard) == (None, "results/debug", False)
    assert (training.debug_dataset, training.filter_controls, training.early_stopping) == (0.0125, True, 0)
    assert configuration.model.model_type == "multitask"
    assert configuration.model.pretrained_model_name == "facebook/wav2vec2-base-960h"
    assert configuration.model.dataset_loss_weighting is None


def test_the_original_file_warns_once_of_each_old_spelling(tmp_path: Path) -> None:
    configuration = load_text(tmp_path, ORIGINAL)
    warned = [warning.partition(" = ")[0] for warning in configuration.warnings]
    assert warned == [
        *("output_dir", "evaluation_strategy", "train_batch_size", "eval_batch_size", "remove_unused_columns"),
        *("log_level", "pretrained_model", "model_type", "generate_new_data", "filter_contols", "debug_dataset"),
        "raw_data_path",
    ]
    assert "eval_strategy = epoch in [Trainer Arguments]" in configuration.warnings[1]
    assert "kept 1.25 %" in configuration.warnings[10]


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the original experiment's file is not at hand")
def test_the_published_file_loads_unchanged(tmp_path: Path) -> None:
    configuration = load_text(tmp_path, PUBLISHED.read_text(encoding="utf-8").split("```")[1])
    assert configuration.update_size == 1200
    assert config_rules.check(configuration) == (configuration, ())


def test_load_model_true_means_the_folder_in_output_dir(tmp_path: Path) -> None:
    text = "[Training Configuration]\nload_model = {}\n[Trainer Arguments]\noutput_dir = ~/models/a\n"
    loaded = load_text(tmp_path, text.format("True"))
    assert loaded.training.load_model == str(Path("~/models/a").expanduser())
    (warning,) = loaded.warnings
    assert "today this is written load_model = ~/models/a in [Training Configuration]" in warning
    off = load_text(tmp_path, text.format("False"))
    assert off.training.load_model is None
    assert "output_dir has no effect" in off.warnings[0]
    assert load_text(tmp_path, text.format("True"), "output_dir=b").training.load_model == "b"
    axis = load_text(tmp_path, text.format("False"), "load_model=False,True").axes
    assert axis == {f"{TRAINING}.load_model": (None, loaded.training.load_model)}


def test_a_list_is_one_value_in_brackets_and_an_axis_in_the_study_section(tmp_path: Path) -> None:
    text = "[Study]\nfilter_datasets = [torgo, l2arctic], [torgo], None\nl2_speakers = ABA, SKA\n"
    axes = load_text(tmp_path, text).axes
    assert axes[f"{TRAINING}.filter_datasets"] == (("l2arctic", "torgo"), ("torgo",), ())
    assert axes[f"{TRAINING}.l2_speakers"] == (("ABA",), ("SKA",))
    assert load(None, ["task_weight=[0.3, 0.7],[1, 1]"]).axes == {f"{MODEL}.task_weight": ((0.3, 0.7), (1.0, 1.0))}


def test_the_order_of_a_set_of_words_makes_no_other_trial() -> None:
    assert load(None, ["filter_datasets=b, a, b"]) == load(None, ["filter_datasets=[a, b]"])


def test_one_batch_size_sets_both(tmp_path: Path) -> None:
    configuration = load_text(tmp_path, "[Trainer Arguments]\nbatch_size = 16\n")
    assert configuration.trainer_arguments == {
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 16,
    }
    assert configuration.update_size == 16


def test_a_key_under_two_spellings_must_agree(tmp_path: Path) -> None:
    text = "[Trainer Arguments]\nlearning_rate = 1e-4\nlr = {}\n"
    assert load_text(tmp_path, text.format("0.0001")).trainer_arguments == {"learning_rate": 1e-4}
    assert "contradicts learning_rate" in problems_of(tmp_path, text.format("2e-4"))[0]


def test_all_problems_of_a_file_and_of_the_overrides_come_in_one_go(tmp_path: Path) -> None:
    text = """
[Trainer Arguments]
num_train_epochs = many
learning_rate = 0
learnin_rate = 1e-4
per_device_train_batch_size = 4, 8
seed = -1
push_to_hub = True
eval_steps = ${Paths:nowhere}
[Training Configuration]
test_set = dev
tensorbord = true
[Model Configuration]
mask_time_prob = 2
reduction =
seed = 1
[Modl Configuration]
[Study]
sed = 1, 2
learning_rate = 1e-4, fast
seed = 1, 1
"""
    expected = [
        ("eval_steps = '${Paths:nowhere}' in [Trainer Arguments]", "${Paths:nowhere} refers to nothing"),
        ("[Modl Configuration]", "unknown section; did you mean [Model Configuration]?"),
        ("num_train_epochs = 'many' in [Trainer Arguments]", "a number is needed"),
        ("learning_rate = '0' in [Trainer Arguments]", "it must be greater than 0"),
        ("learnin_rate = '1e-4' in [Trainer Arguments]", "unknown key; did you mean 'learning_rate'"),
        (
            "per_device_train_batch_size = '4, 8' in [Trainer Arguments]",
            "a whole number is needed; the values of",
        ),
        ("seed = '-1' in [Trainer Arguments]", "it must be from 0 to 4294967295"),
        ("push_to_hub = 'True' in [Trainer Arguments]", "push_to_hub is not supported"),
        ("test_set = 'dev' in [Training Configuration]", "'validation', 'test' or 'both' is needed"),
        ("tensorbord = 'true' in [Training Configuration]", "unknown key; did you mean 'tensorboard'"),
        ("mask_time_prob = '2' in [Model Configuration]", "it must be at most 1"),
        ("reduction = '' in [Model Configuration]", "a value is missing"),
        ("seed = '1' in [Model Configuration]", "unknown key here; it belongs to [Trainer Arguments]"),
        ("sed = '1, 2' in [Study]", "unknown key; did you mean 'seed' in [Trainer Arguments]?"),
        ("learning_rate = '1e-4, fast' in [Study]", "a number is needed (the value 'fast')"),
        ("seed = '1, 1' in [Study]", "the value '1' stands there twice"),
    ]
    starts = [f"{given} of study.conf: {reason}" for given, reason in expected] + [
        "--set 'seeed=1': unknown key; did you mean 'seed' in [Trainer Arguments]?",
        "--set 'reduction': '=' and a value are missing; write --set reduction=VALUE (a key of [Model",
        "--set 'Trainer.seed=1': unknown section; did you mean [Trainer Arguments]?",
    ]
    problems = problems_of(tmp_path, text, "seeed=1", "reduction", "Trainer.seed=1")
    for problem, start in zip(problems, starts, strict=True):
        assert problem.startswith(start)


def test_several_values_make_an_axis_and_one_value_ends_it(tmp_path: Path) -> None:
    text = "[Model Configuration]\nreduction = mean\n[Study]\nreduction = sum, power(alpha=0.25)\nseed = 2022..2024\n"
    configuration = load_text(tmp_path, text)
    reductions, seeds = f"{MODEL}.reduction", f"{TRAINER}.seed"
    assert configuration.axes == {reductions: ("sum", "power(alpha=0.25)"), seeds: (2022, 2023, 2024)}
    changed = load_text(tmp_path, text, "reduction=sum", "Trainer Arguments.seed=1,2", "lr=1e-4,2e-4")
    assert changed.axes == {seeds: (1, 2), f"{TRAINER}.learning_rate": (1e-4, 2e-4)}
    assert changed.model.reduction == "sum"


def test_a_list_field_takes_a_comma_as_part_of_its_value() -> None:
    configuration = load(None, ["report_to=tensorboard,wandb", "label_names=labels"])
    assert configuration.trainer_arguments == {
        "report_to": ["tensorboard", "wandb"],
        "label_names": ["labels"],
    }
    assert load(None, ['report_to=["wandb"], none']).axes == {f"{TRAINER}.report_to": (["wandb"], "none")}


def test_the_settings_of_a_search_space_count_only_without_a_file(tmp_path: Path) -> None:
    defaults = {
        TRAINER: {"seed": 7},
        MODEL: {"reduction": "sum"},
        "Study": {"seed": range(3), "baseline": "sum"},
    }
    space = load(None, defaults=defaults)
    assert (space.trainer_arguments, space.axes) == ({"seed": 7}, {f"{TRAINER}.seed": (0, 1, 2)})
    assert (space.model.reduction, space.baseline, space.source) == ("sum", "sum", None)
    path = tmp_path / "own.conf"
    path.write_text("[Study]\ngroups = group, l1\n", encoding="utf-8")
    own = load(path, defaults=defaults)
    assert (own.trainer_arguments, own.axes, own.model.reduction, own.baseline) == ({}, {}, "mean", None)
    assert (own.groups, own.source) == (("group", "l1"), "own.conf")
    with pytest.raises(ConfigurationError, match=r"sed = 1 in \[Trainer Arguments\] of the search space: unknown key"):
        load(None, defaults={TRAINER: {"sed": 1}})


def test_with_values_sets_checks_and_ends_the_axis() -> None:
    study = load(None, ["reduction=sum,mean", "seed=1,2", "learning_rate=1e-4"])
    trial = study.with_values({f"{MODEL}.reduction": "sum", f"{TRAINER}.seed": 2})
    assert trial.axes == {}
    assert trial.model.reduction == "sum"
    assert trial.trainer_arguments == {"learning_rate": 1e-4, "seed": 2}
    assert study.model.reduction == "mean", "the study itself is not changed"
    with pytest.raises(ConfigurationError, match="unknown key; did you mean 'reduction'"):
        study.with_values({f"{MODEL}.reductoin": "sum"})
    with pytest.raises(ConfigurationError, match="a whole number is needed"):
        study.with_values({f"{TRAINER}.seed": 1.5})


def test_a_configuration_is_ready_for_json_and_for_another_process() -> None:
    study = load(
        None, ["reduction=sum,mean", "num_train_epochs=2", "report_to=none", "eval_steps=None", "task_weight=1"]
    )
    assert json.loads(json.dumps(study.as_dict(), allow_nan=False)) == study.as_dict()
    assert study.as_dict()[TRAINING]["dataset_path"] == "sample"
    assert pickle.loads(pickle.dumps(study)) == study
    assert pickle.loads(pickle.dumps(ConfigurationError("a", "b"))).problems == ("a", "b")


def test_the_update_is_that_of_training_arguments_when_nothing_is_given() -> None:
    assert load(None).update_size == 8


def test_a_configuration_loads_without_the_heavy_packages() -> None:
    code = (
        "import sys; from launcher.config import load; load(None, ['seed=1,2']);"
        "print([name for name in ('torch', 'transformers', 'ray', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
