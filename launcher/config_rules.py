"""What holds between the keys of one resolved configuration: contradictions, consequences, keys without effect. Pure.

A rule looks at a configuration whose axes are settled (a cell of the grid) and yields what it finds. To add one is a
function and its name in `RULES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher import training_arguments
from launcher.config import Configuration
from launcher.config_schema import TRAINER
from launcher.config_values import ConfigurationError

_EVALUATES = ("epoch", "steps")
TRACKERS = ("tensorboard", "wandb", "mlflow")
_SCORE = re.compile(r"(?:eval_)?(?:wer|cer|nll_per_label)(?:/.+)?")


@dataclass(frozen=True)
class Finding:
    """What a rule found: a problem, a warning, or values of [Trainer Arguments] that follow from others."""

    problem: str = ""
    warning: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


Rule = Callable[[Configuration], Iterator[Finding]]


def check(configuration: Configuration) -> tuple[Configuration, tuple[str, ...]]:
    """Check one resolved configuration.

    Args:
        configuration: a cell of a grid; its axes, if there are any, are not looked at.

    Returns:
        the configuration with the values that follow from its keys, and warnings of keys that have no effect in it.

    Raises:
        ConfigurationError: with every problem.
    """
    findings = [finding for rule in RULES for finding in rule(configuration)]
    problems = tuple(finding.problem for finding in findings if finding.problem)
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))
    values = {f"{TRAINER}.{name}": value for finding in findings for name, value in finding.values.items()}
    warnings = tuple(dict.fromkeys(finding.warning for finding in findings if finding.warning))
    return configuration.with_values(values) if values else configuration, warnings


def _argument(configuration: Configuration, name: str) -> Any:
    """Return a trainer argument or its default; a trial trains and evaluates unless it is told otherwise."""
    given = configuration.trainer_arguments
    if name in ("do_train", "do_eval"):
        return given.get(name, True) is not False
    value = given.get(name, training_arguments.fields()[name].default)
    return _argument(configuration, "logging_steps") if name == "eval_steps" and value is None else value


def _given(configuration: Configuration, names: tuple[str, ...]) -> list[str]:
    """Return those keys of lossgrid's own sections whose value is not the default, as `key = value`."""
    found = []
    for name in names:
        section = configuration.training if name in type(configuration.training).model_fields else configuration.model
        value = getattr(section, name)
        if value != type(section).model_fields[name].default:
            found.append(f"{name} = {value}")
    return found


def trackers_of(configuration: Configuration) -> tuple[str, ...]:
    """Return what a trial is reported to, as `report_to` names it; none unless it is asked for."""
    given = configuration.trainer_arguments.get("report_to")
    names = [given] if isinstance(given, str) else given or ()
    return tuple(dict.fromkeys(name for name in names if name != "none"))


def _something_to_do(configuration: Configuration) -> Iterator[Finding]:
    asked = _argument(configuration, "do_train") or _argument(configuration, "do_eval")
    if not asked and not configuration.training.audit:
        yield Finding(
            "do_train = False with do_eval = False and audit = False leaves nothing to do; leave one of them out"
        )


def _test_split_is_for_the_end(configuration: Configuration) -> Iterator[Finding]:
    if configuration.training.test_set == "both" and _argument(configuration, "do_train"):
        yield Finding(
            "test_set = both needs do_train = False: a test split that is looked at while choosing is no test split; "
            "train with test_set = validation, then score with load_model = FOLDER, do_train = False, test_set = both"
        )


def _evaluation_is_on(configuration: Configuration) -> Iterator[Finding]:
    if _argument(configuration, "do_eval") or not _argument(configuration, "do_train"):
        return
    strategy = _argument(configuration, "eval_strategy")
    if strategy != "no":
        yield Finding(
            f"do_eval = False contradicts eval_strategy = {strategy}; write eval_strategy = no, or leave do_eval out"
        )
    if configuration.training.early_stopping:
        stopping = configuration.training.early_stopping
        yield Finding(f"do_eval = False contradicts early_stopping = {stopping}, which needs scores; leave one out")


def _early_stopping_follows_evaluations(configuration: Configuration) -> Iterator[Finding]:
    patience = configuration.training.early_stopping
    if not patience or not _argument(configuration, "do_train"):
        return
    given, strategy = configuration.trainer_arguments, _argument(configuration, "eval_strategy")
    what = f"early_stopping = {patience}"
    if strategy not in _EVALUATES:
        yield Finding(
            f"{what} counts evaluations, and eval_strategy = {strategy}; add the line eval_strategy = epoch to [{TRAINER}]"
        )
        return
    if given.get("load_best_model_at_end") is False:
        yield Finding(f"{what} keeps the best model, which load_best_model_at_end = False forbids; leave one out")
        return
    values: dict[str, Any] = {"load_best_model_at_end": True}
    if "save_strategy" not in given:
        values["save_strategy"] = strategy
    if strategy == "steps" and "save_steps" not in given and given.get("save_strategy") != "best":
        values["save_steps"] = _argument(configuration, "eval_steps")
    yield Finding(values={name: value for name, value in values.items() if given.get(name) != value})
    yield from _best_model_is_saved({**given, **values}, configuration, what)


def _best_model_needs_evaluations(configuration: Configuration) -> Iterator[Finding]:
    given = configuration.trainer_arguments
    watched = configuration.training.early_stopping == 0 and _argument(configuration, "do_train")
    if given.get("load_best_model_at_end") and watched:
        yield from _best_model_is_saved(given, configuration, "load_best_model_at_end = True")


def _best_model_is_saved(given: Mapping[str, Any], configuration: Configuration, what: str) -> Iterator[Finding]:
    """Find where the model of an evaluation would not be saved; `TrainingArguments` refuses the same."""
    strategy = _argument(configuration, "eval_strategy")
    saved = given.get("save_strategy", training_arguments.fields()["save_strategy"].default)
    if strategy not in _EVALUATES:
        yield Finding(f"{what} needs evaluations; add the line eval_strategy = epoch to [{TRAINER}]")
    elif saved not in (strategy, "best"):
        yield Finding(
            f"{what} saves the model at evaluations: save_strategy = {saved} and eval_strategy = {strategy} must be "
            f"equal; write save_strategy = {strategy}"
        )
    elif saved == strategy == "steps":
        every = _argument(configuration, "eval_steps")
        steps = given.get("save_steps", training_arguments.fields()["save_steps"].default)
        # Fractions of all updates may differ in their last bit.
        if (every < 1) != (steps < 1) or abs(steps / every - round(steps / every)) > 1e-9:
            yield Finding(
                f"{what} saves the model at evaluations: save_steps = {steps:g} must be a multiple of "
                f"eval_steps = {every:g}"
            )


def _one_precision(configuration: Configuration) -> Iterator[Finding]:
    if _argument(configuration, "bf16") and _argument(configuration, "fp16"):
        yield Finding("bf16 = True and fp16 = True exclude each other; keep bf16 where the device has it")
    if configuration.model.match_step and _argument(configuration, "fp16"):
        yield Finding("match_step = True cannot be told from fp16's loss scaling; use bf16 = True, or neither")


def _watched_score(configuration: Configuration) -> Iterator[Finding]:
    metric = configuration.trainer_arguments.get("metric_for_best_model")
    if metric is None:
        return
    if not _SCORE.fullmatch(str(metric)):
        yield Finding(
            f"metric_for_best_model = {metric} is not measured; choose wer, cer or nll_per_label, of all utterances or of a "
            "group: wer/word"
        )
    elif not configuration.training.early_stopping and not _argument(configuration, "load_best_model_at_end"):
        yield Finding(
            warning=f"metric_for_best_model = {metric}: no effect without early_stopping or load_best_model_at_end = True"
        )


def _what_cannot_be_kept(configuration: Configuration) -> Iterator[Finding]:
    """Find settings of transformers that would spoil a result without a word."""
    given = configuration.trainer_arguments
    best = configuration.training.early_stopping or given.get("load_best_model_at_end")
    if given.get("eval_on_start") and best and _argument(configuration, "do_train"):
        yield Finding(
            "eval_on_start = True would let the untrained model be the best one, of which there is no checkpoint; leave it "
            "out (every trial scores its initial model anyway)"
        )
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        if isinstance(given.get(name), Mapping) and given[name].get("use_reentrant"):
            yield Finding(f"{name} with use_reentrant = true loses the gradients of the convolutions; leave it out")


def _class_weights_need_mean(configuration: Configuration) -> Iterator[Finding]:
    weights, reduction = configuration.model.dataset_loss_weighting, configuration.model.reduction
    if weights is not None and reduction.strip() != "mean":
        yield Finding(
            f"dataset_loss_weighting = {list(weights)} needs reduction = mean, as its weights have always been divided "
            f"by the labels, and reduction = {reduction!r}; to weigh groups otherwise write "
            "reduction = dataset_weighted(name=weight, ...) and leave dataset_loss_weighting out"
        )


def _one_origin_of_weights(configuration: Configuration) -> Iterator[Finding]:
    load, name = configuration.training.load_model, configuration.model.pretrained_model_name
    if load is not None and name is not None:
        yield Finding(
            warning=f"pretrained_model_name = {name} has no effect: the weights come from load_model = {load}"
        )
    layers = configuration.model.reinitialize_last_n_layers
    if load is not None and layers:
        yield Finding(
            warning=f"reinitialize_last_n_layers = {layers} has no effect: load_model = {load} is taken as it was trained"
        )


def _reversal_is_on(configuration: Configuration) -> Iterator[Finding]:
    idle = _given(configuration, ("gradient_reversal_lambda", "gradient_reversal_schedule"))
    if idle and not configuration.model.gradient_reversal:
        yield Finding(warning=f"{', '.join(idle)}: no effect without gradient_reversal = True")


def _masks_are_on(configuration: Configuration) -> Iterator[Finding]:
    model, load = configuration.model, configuration.training.load_model
    from_scratch = load is None and model.pretrained_model_name is None
    for kind, others in (("time", ("length", "min_masks")), ("feature", ("length",))):
        share = getattr(model, f"mask_{kind}_prob")
        idle = _given(configuration, tuple(f"mask_{kind}_{other}" for other in others))
        # A model from scratch masks nothing unless it is told to; a checkpoint brings its own share.
        if idle and (share == 0 or (share is None and from_scratch)):
            yield Finding(warning=f"{', '.join(idle)}: no effect while mask_{kind}_prob is 0")


def _audit_is_on(configuration: Configuration) -> Iterator[Finding]:
    idle = _given(configuration, ("audit_split", "audit_utterances", "audit_exact"))
    if idle and not configuration.training.audit:
        yield Finding(warning=f"{', '.join(idle)}: no effect with audit = False")


def _scoring_alone(configuration: Configuration) -> Iterator[Finding]:
    if _argument(configuration, "do_train"):
        return
    names = ("early_stopping", "freeze_feature_extractor", "freeze_encoder", "training_type", "match_step",
             "dataset_loss_weighting", "task_weight")  # fmt: skip
    idle = _given(configuration, names)
    if idle:
        yield Finding(warning=f"{', '.join(idle)}: no effect with do_train = False, nothing is trained")
    if configuration.training.load_model is None and configuration.model.pretrained_model_name is None:
        yield Finding(
            warning="do_train = False without load_model or pretrained_model_name measures a model that was never trained"
        )


def _trackers_are_known(configuration: Configuration) -> Iterator[Finding]:
    names = trackers_of(configuration)
    if unknown := [name for name in names if name not in TRACKERS]:
        yield Finding(f"report_to = {', '.join(unknown)} is not supported; choose of {', '.join(TRACKERS)}, or none")
    if "tensorboard" in names and not configuration.training.tensorboard:
        yield Finding("report_to = tensorboard contradicts tensorboard = False; leave one of them out")


RULES: tuple[Rule, ...] = (
    _something_to_do,
    _test_split_is_for_the_end,
    _evaluation_is_on,
    _early_stopping_follows_evaluations,
    _best_model_needs_evaluations,
    _one_precision,
    _watched_score,
    _what_cannot_be_kept,
    _class_weights_need_mean,
    _one_origin_of_weights,
    _reversal_is_on,
    _masks_are_on,
    _audit_is_on,
    _scoring_alone,
    _trackers_are_known,
)
