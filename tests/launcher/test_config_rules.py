"""Promises of launcher.config_rules: contradictions are told, consequences drawn, and no key is idle in silence."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from launcher.config import Configuration, ConfigurationError, load
from launcher.config_rules import RULES, check


def settings_of(text: str) -> Configuration:
    return load(None, [word.strip() for word in text.split("&") if word.strip()])


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("test_set=both", ["test_set = both needs do_train = False"]),
        ("do_train=False & do_eval=False & audit=False", ["leaves nothing to do"]),
        ("match_step=True & fp16=True", ["match_step = True cannot be told from fp16's loss scaling"]),
        ("metric_for_best_model=bleu", ["metric_for_best_model = bleu is not measured; choose wer, cer or nll_per_label"]),
        ("eval_on_start=True & early_stopping=1 & eval_strategy=epoch", ["eval_on_start = True would let the untrained"]),
        ('gradient_checkpointing_kwargs={"use_reentrant": true}', ["use_reentrant = true loses the gradients"]),
        ("early_stopping=2", ["early_stopping = 2 counts evaluations, and eval_strategy = no; add the line eval_strategy"]),
        ("do_eval=False & eval_strategy=epoch", ["do_eval = False contradicts eval_strategy = epoch"]),
        ("do_eval=False & early_stopping=1 & eval_strategy=epoch", ["contradicts eval_strategy", "contradicts early_stopping"]),
        ("early_stopping=1 & eval_strategy=epoch & load_best_model_at_end=False", ["load_best_model_at_end = False forbids"]),
        ("early_stopping=1 & eval_strategy=epoch & save_strategy=steps", ["early_stopping = 1 saves", "save_strategy = epoch"]),
        ("early_stopping=1 & eval_strategy=steps & eval_steps=20 & save_steps=30", ["save_steps = 30 must be a multiple"]),
        ("load_best_model_at_end=True", ["needs evaluations; add the line eval_strategy = epoch"]),
        ("load_best_model_at_end=True & eval_strategy=epoch", ["save_strategy = steps and eval_strategy = epoch must be equal"]),
        ("bf16=True & fp16=True", ["bf16 = True and fp16 = True exclude each other"]),
        ("report_to=all", ["report_to = all is not supported; choose of tensorboard, wandb, mlflow, or none"]),
        ("report_to=tensorboard & tensorboard=False", ["report_to = tensorboard contradicts tensorboard = False"]),
        ("dataset_loss_weighting=1.3,0.7 & reduction=sum", ["needs reduction = mean", "dataset_weighted(name=weight"]),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_with_what_to_do(text: str, messages: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(settings_of(text))
    said = "\n".join(caught.value.problems)
    assert all(message in said for message in messages)
    assert caught.value.is_request_error


def test_all_problems_come_in_one_go_each_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(settings_of("test_set=both & early_stopping=3 & bf16=True & fp16=True"))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("load_model=a & pretrained_model_name=b", "pretrained_model_name = b has no effect"),
        ("gradient_reversal_lambda=0.5", "gradient_reversal_lambda = 0.5: no effect without gradient_reversal"),
        ("gradient_reversal_schedule=dann", "gradient_reversal_schedule = dann: no effect"),
        ("audit=False & audit_exact=3", "audit_exact = 3: no effect with audit = False"),
        ("do_train=False & load_model=a & match_step=True & freeze_encoder=True & early_stopping=2",
         "early_stopping = 2, freeze_encoder = True, match_step = True: no effect with do_train = False"),
        ("do_train=False", "measures a model that was never trained"),
        ("mask_time_length=5", "mask_time_length = 5: no effect while mask_time_prob is 0"),
        ("mask_feature_length=5 & mask_feature_prob=0 & load_model=a", "no effect while mask_feature_prob is 0"),
        ("metric_for_best_model=wer/word", "no effect without early_stopping or load_best_model_at_end"),
        ("load_model=a & reinitialize_last_n_layers=1", "reinitialize_last_n_layers = 1 has no effect"),
        ("do_train=False & load_model=a & task_weight=0.3", "task_weight = (0.3, 0.7): no effect with do_train = False"),
    ],
)  # fmt: skip
def test_a_key_without_effect_is_one_warning(text: str, warning: str) -> None:
    before = settings_of(text)
    after, (said,) = check(before)
    assert warning in said
    assert after is before


@pytest.mark.parametrize(
    "text",
    [
        "", "do_eval=False", "do_train=True & do_eval=True", "eval_strategy=epoch", "dataset_loss_weighting=1.3,0.7",
        "do_train=False & load_model=a & test_set=both", "do_train=False & load_model=a & do_eval=True",
        "gradient_reversal=True & gradient_reversal_lambda=2", "bf16=True", "audit_exact=3", "audit=False",
        "load_best_model_at_end=True & eval_strategy=steps & save_strategy=best & eval_steps=7",
    ],
)  # fmt: skip
def test_what_fits_together_passes_untouched_and_in_silence(text: str) -> None:
    before = settings_of(text)
    assert check(before) == (before, ())


@pytest.mark.parametrize(
    ("text", "implied"),
    [
        ("eval_strategy=epoch", {"save_strategy": "epoch"}),
        ("eval_strategy=steps & eval_steps=25", {"save_strategy": "steps", "save_steps": 25.0}),
        ("eval_strategy=steps & logging_steps=10", {"save_strategy": "steps", "save_steps": 10.0}),
        ("eval_strategy=steps & eval_steps=25 & save_strategy=steps & save_steps=50", {}),
        ("eval_strategy=steps & eval_steps=25 & save_strategy=best", {}),
    ],
)
def test_early_stopping_keeps_the_best_model_and_saves_at_evaluations(text: str, implied: dict[str, object]) -> None:
    before = settings_of(f"early_stopping=2 & {text}")
    after, warnings = check(before)
    assert warnings == ()
    assert after.trainer_arguments == {**before.trainer_arguments, "load_best_model_at_end": True, **implied}
    assert check(after) == (after, ()), "what was drawn once follows again"


def test_the_best_model_is_refused_exactly_where_transformers_refuses_it(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    steps = (None, 2, 3, 4, 0.1, 0.3)
    for strategy, saved in itertools.product(("no", "steps", "epoch"), ("no", "steps", "epoch", "best")):
        for eval_steps, save_steps in itertools.product(steps, steps):
            values = {"eval_strategy": strategy, "save_strategy": saved, "load_best_model_at_end": True}
            values |= {} if eval_steps is None else {"eval_steps": eval_steps}
            values |= {} if save_steps is None else {"save_steps": save_steps}
            try:
                TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **values)
                refused = False
            except ValueError:
                refused = True
            # transformers lets `best` pass without evaluations, and then there never is a best model.
            refused |= strategy == "no"
            configuration = load(None, [f"{key}={value}" for key, value in values.items()])
            try:
                check(configuration)
                assert not refused, values
            except ConfigurationError:
                assert refused, values


def test_every_rule_finds_something() -> None:
    files = [
        "do_train=False & do_eval=False & audit=False", "test_set=both", "do_eval=False & eval_strategy=epoch", "early_stopping=1",
        "load_best_model_at_end=True", "bf16=True & fp16=True", "metric_for_best_model=bleu",
        "eval_on_start=True & early_stopping=1 & eval_strategy=epoch", "dataset_loss_weighting=1,2 & reduction=sum",
        "load_model=a & pretrained_model_name=b", "gradient_reversal_lambda=1",
        "mask_time_length=5", "audit=False & audit_exact=1", "do_train=False", "report_to=all",
    ]  # fmt: skip
    for rule, text in zip(RULES, files, strict=True):
        assert list(rule(settings_of(text))), rule.__name__
