"""Promises of launcher.training_arguments: it knows the installed class and types by it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from launcher.training_arguments import COMPUTED, convert, fields


def test_the_fields_are_those_of_the_installed_class() -> None:
    # The one import of transformers here (3 s): the oracle.
    from transformers import TrainingArguments
    from transformers.training_args import trainer_log_levels

    real = {field.name: field for field in dataclasses.fields(TrainingArguments)}
    assert list(fields()) == list(real)
    for name, field in fields().items():
        if field.default is not COMPUTED:
            assert field.default == real[name].default, name
    assert set(fields()["log_level"].choices) == set(trainer_log_levels)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "5e-4", 5e-4),
        ("num_train_epochs", "12", 12.0),
        ("seed", "2022", 2022),
        ("fp16", "true", True),
        ("fp16", "False", False),
        ("eval_steps", "None", None),
        ("eval_steps", "0.5", 0.5),
        ("run_name", "None", None),
        ("run_name", '"None"', "None"),
        ("run_name", "12", "12"),
        ("report_to", "none", "none"),
        ("report_to", "tensorboard", "tensorboard"),
        ("report_to", "tensorboard, wandb", ["tensorboard", "wandb"]),
        ("report_to", '["wandb"]', ["wandb"]),
        ("label_names", "labels", ["labels"]),
        ("lr_scheduler_kwargs", '{"num_cycles": 2}', {"num_cycles": 2}),
        ("accelerator_config", "accelerate.json", "accelerate.json"),
        ("include_num_input_tokens_seen", "true", True),
        ("include_num_input_tokens_seen", "all", "all"),
        ("trackio_static_space_id", "False", False),
        ("optim", "adafactor", "adafactor"),
        ("debug", "", ""),
        ("warmup_steps", 2000, 2000.0),
        ("max_steps", "-1", -1),
    ],
)
def test_a_value_takes_the_type_of_its_field(name: str, text: Any, value: Any) -> None:
    typed = convert(name, text)
    assert typed == value
    assert type(typed) is type(value)
    assert convert(name, typed, literal=True) == value, "typing a typed value changes nothing"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_train_epochs", "many", "a number is needed"),
        ("num_train_epochs", "-1", "0 or more"),
        ("num_train_epochs", "nan", "a number is needed"),
        ("num_train_epochs", "1e999", "a number is needed"),
        ("num_train_epochs", True, "a number is needed"),
        ("num_train_epochs", None, "a number is needed"),
        ("learning_rate", "0", "greater than 0"),
        ("learning_rate", [1e-4], "a number is needed"),
        ("seed", "1.5", "a whole number is needed"),
        ("seed", "9" * 5000, "a whole number is needed"),
        ("per_device_train_batch_size", "0", "1 or more"),
        ("gradient_accumulation_steps", "0", "1 or more"),
        ("fp16", "maybe", "True or False is needed"),
        ("optim", "adamw_torhc", "did you mean 'adamw_torch'"),
        ("eval_strategy", "never", "one of no, steps, epoch is needed"),
        ("log_level", "message", "one of detail, debug, info"),
        ("ddp_backend", "tcp", "one of nccl, gloo"),
        ("label_names", "[1, 2]", "a list of texts or None is needed"),
        ("lr_scheduler_kwargs", '{"a": NaN}', "it must be JSON"),
        ("run_name", "", "a value is missing"),
        ("run_name", 5, "a text or None is needed"),
    ],
)
def test_a_value_of_another_type_or_range_is_refused_with_what_is_needed(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(name, value)
