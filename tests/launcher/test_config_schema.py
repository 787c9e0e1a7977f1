"""Promises of launcher.config_schema and config_types: each way in which a key of lossgrid's own sections may be written."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.config import ConfigurationError, load
from launcher.config_schema import MODEL, MODELS, TRAINING, convert


@pytest.mark.parametrize(
    ("override", "target", "value"),
    [
        ("save_results=False", f"{TRAINING}.save_results", None),
        ("save_results=out", f"{TRAINING}.save_results", "out"),
        ("load_model=false", f"{TRAINING}.load_model", None),
        ('load_model="False"', f"{TRAINING}.load_model", "False"),
        ("debug_dataset=0", f"{TRAINING}.debug_dataset", None),
        ("debug_dataset=False", f"{TRAINING}.debug_dataset", None),
        ("debug_dataset=1", f"{TRAINING}.debug_dataset", 1.0),
        ("filter_datasets=torgo", f"{TRAINING}.filter_datasets", ["torgo"]),
        ("filter_datasets=torgo, l2arctic", f"{TRAINING}.filter_datasets", ["l2arctic", "torgo"]),
        ("filter_datasets=[torgo]", f"{TRAINING}.filter_datasets", ["torgo"]),
        ('filter_datasets=["a, b", None1]', f"{TRAINING}.filter_datasets", ["None1", "a, b"]),
        ("filter_datasets=None", f"{TRAINING}.filter_datasets", []),
        ("l2_speakers=False", f"{TRAINING}.l2_speakers", []),
        ("l2_speakers=[]", f"{TRAINING}.l2_speakers", []),
        ("early_stopping=False", f"{TRAINING}.early_stopping", 0),
        ("early_stopping=3", f"{TRAINING}.early_stopping", 3),
        ("audit_exact=False", f"{TRAINING}.audit_exact", 0),
        ("reinitialize_last_n_layers=False", f"{MODEL}.reinitialize_last_n_layers", 0),
        ("branch_layers=None", f"{MODEL}.branch_layers", None),
        ("task_weight=0.25", f"{MODEL}.task_weight", [0.25, 0.75]),
        ("task_weight=[1, 2]", f"{MODEL}.task_weight", [1.0, 2.0]),
        ("dataset_loss_weighting=1.31,0.71,1.20", f"{MODEL}.dataset_loss_weighting", [1.31, 0.71, 1.2]),
        ("dataset_loss_weighting=None", f"{MODEL}.dataset_loss_weighting", None),
        ("domaincls_loc=3", f"{MODEL}.domaincls_loc", 3),
        ("domaincls_loc=extractor", f"{MODEL}.domaincls_loc", "extractor"),
        ("classes=group", f"{MODEL}.classes", "group"),
        ('classes="task"', f"{MODEL}.classes", "task"),
        ("gradient_reversal_schedule=dann", f"{MODEL}.gradient_reversal_schedule", "dann"),
    ],
)
def test_a_key_is_read_in_each_way_it_may_be_written(override: str, target: str, value: Any) -> None:
    configuration = load(None, [override])
    section, _, key = target.partition(".")
    assert configuration.as_dict()[section][key] == value
    assert configuration.warnings == ()
    assert configuration.axes == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("load_model=True", "True means the folder in output_dir of [Trainer Arguments], and none is given"),
        ("debug_dataset=1.5", "it must be at most 1"),
        ("debug_dataset=-0.1", "it must be at least 0"),
        ("early_stopping=True", "a whole number is needed"),
        ("early_stopping=-1", "it must be at least 0"),
        ("filter_datasets=[a, None]", "None stands for no value"),
        ("filter_datasets=[a", "']' is missing"),
        ("l2_speakers=a,,b", "a value is missing"),
        ("audit_utterances=0", "it must be at least 1"),
        ("audit_split=dev", "'train', 'validation' or 'test' is needed"),
        ("dataset_loss_weighting=1.3, high", "'high': a number is needed"),
        ("dataset_loss_weighting=1.3, 0", "'0': it must be greater than 0"),
        ("dataset_loss_weighting=1.3", "at least 2 values are needed"),
        ("task_weight=1.5", "one number from 0 to 1, or two numbers [CTC, classifier]"),
        ("task_weight=0,0", "not both 0"),
        ("task_weight=1,2,3", "one number from 0 to 1, or two numbers"),
        ("domaincls_loc=0", "the number of a transformer layer (1 or more) is needed"),
        ("domaincls_loc=head", "extractor, encoder, final or the number"),
        ("branch_layers=[1, 2]", "a whole number is needed"),
        ("training_type=semi", "'supervised' or 'unsupervised' is needed"),
        ("gradient_reversal_lambda=-1", "it must be at least 0"),
        ("num_train_epochs=-3", "0 or more"),
        ("num_train_epochs=[1, 2]", "a number is needed"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_is_needed(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, [override])
    (problem,) = caught.value.problems
    assert problem.startswith(f"--set {override!r}: ")
    assert message in problem


ANYTHING: tuple[Any, ...] = (
    *(None, False, True, 0, -1, 1.5, float("nan"), 10**400, [], ["a"], (1, 2, 3), {"a": 1}, object()),
    *("", "None", "False", "True", "[", "[]", '"x', '""', "a,b", "9" * 6000, "\0", "~", "\ud800"),
)


@pytest.mark.parametrize(
    ("section", "key"), [(section, key) for section in MODELS for key in MODELS[section].model_fields]
)
def test_a_value_is_typed_once_and_for_all_or_refused_in_our_words(section: str, key: str) -> None:
    for value in ANYTHING:
        said, typed = "", None
        try:
            typed = convert(f"{section}.{key}", value)
        except ValueError as error:
            said = str(error)
        assert "nput should" not in said, "no message of pydantic's"
        assert said or convert(f"{section}.{key}", typed, literal=True) == typed
