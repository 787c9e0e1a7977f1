"""What a trial trains, made from its configuration: model, data, Trainer and evaluators."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import distributed, hardware, model_options, reduction_choice, variants, weights
from trainables.class_loss import ClassLoss
from trainables.corpora.store import Store
from trainables.dataset import Loader, Split, UpdateLoader, UpdateSampler, split
from trainables.evaluation import Evaluator
from trainables.model_options import ModelOptions
from trainables.reductions import Reduction
from trainables.specaugment import TimeMasks
from trainables.trainer import UpdateTrainer
from trainables.trial import Trial
from trainables.usage import Usage
from trainables.vocabulary import Vocabulary

_OWN_MODEL_KEYS = frozenset(
    (
        "model_type",
        "pretrained_model_name",
        "reduction",
        "reduction_group",
        "match_step",
        "ctc_zero_infinity",
        "dataset_loss_weighting",
    )
) | {"freeze_feature_extractor", *model_options.KEYS}


def model_of(trial: Trial) -> tuple[Wav2Vec2ForCTC, Vocabulary, Wav2Vec2FeatureExtractor]:
    """Build the model, with the vocabulary and the feature extractor that belong to it."""
    settings = trial.model
    module = variants.load("trainables.models", settings["model_type"])
    pretrained = trial.checkpoint
    weights.check(pretrained, trial.weights.get(pretrained or ""))
    start = module.start(pretrained)
    vocabulary = start.vocabulary() or Store.open(trial.store).vocabulary
    overrides = {name: value for name, value in settings.items() if name not in _OWN_MODEL_KEYS and value is not None}
    # transformers' default of 2 masks a large part of every short word: a confound of length.
    overrides.setdefault("mask_time_min_masks", 0)
    options = model_options.of(trial.sections, Store.open(trial.store))
    model = module.build(vocabulary, overrides, pretrained, options)
    if settings["freeze_feature_extractor"] or settings.get("freeze_encoder"):
        model.wav2vec2.freeze_feature_encoder()
    if settings.get("freeze_encoder"):
        model.wav2vec2.requires_grad_(False)
    return model, vocabulary, start.features()


def trainer_of(
    trial: Trial, model: Wav2Vec2ForCTC, vocabulary: Vocabulary, features: Wav2Vec2FeatureExtractor
) -> UpdateTrainer:
    """Make the Trainer; while it trains it scores the validation split."""
    store, arguments = Store.open(trial.store), trial.arguments
    bound = int(arguments.get("per_device_train_batch_size", 8))
    update_size = bound * int(arguments.pop("gradient_accumulation_steps", 1))
    seed = int(arguments.get("seed", 42) if arguments.get("data_seed") is None else arguments["data_seed"])
    options = model_options.of(trial.sections, store)
    training = split_of(trial, "train", model, vocabulary)
    budget = _budget(trial, training, bound)
    class_loss = None
    if options.classes:
        training = with_classes(training, options)
        class_loss = ClassLoss.of(trial.model, options.classes, training.class_code or ())
    without_ctc = frozenset(np.flatnonzero(options.unsupervised(training.columns)).tolist())
    sampler = UpdateSampler(len(training), update_size, seed)
    loader = Loader(
        training, features, budget, bound, distributed.rank(), distributed.world_size(), _masks(model, seed), sampler,
        without_ctc,
    )  # fmt: skip
    trainer = UpdateTrainer(
        model,
        training_arguments(arguments, trial.folder / "checkpoints"),
        loader=UpdateLoader(loader, sampler, int(arguments.get("dataloader_num_workers", 0))),
        reduction=_for_groups(reduction_choice.choose(trial.model, training.groups), loader.weighed.groups),
        evaluator=evaluator_of(trial, ("validation",), model, vocabulary, features),
        blank=vocabulary.blank,
        zero_infinity=trial.model["ctc_zero_infinity"],
        keep_checkpoints=int(arguments.get("save_total_limit") or 1),
        match_step=bool(trial.model.get("match_step")),
        class_loss=class_loss,
    )
    distributed.copy_from_first([*model.parameters(), *model.buffers()])  # now that they are where they are trained
    return trainer


def evaluator_of(
    trial: Trial,
    splits: tuple[str, ...],
    model: Wav2Vec2ForCTC,
    vocabulary: Vocabulary,
    features: Wav2Vec2FeatureExtractor,
) -> Evaluator:
    """Make what scores some splits together."""
    arguments, evaluated = trial.arguments, split_of(trial, splits, model, vocabulary)
    bound = int(arguments.get("per_device_eval_batch_size", arguments.get("per_device_train_batch_size", 8)))
    return Evaluator(evaluated, vocabulary, features, trial.groups, _budget(trial, evaluated, bound), bound)


def _budget(trial: Trial, utterances: Split, bound: int) -> float:
    """Return the padded seconds of one forward, less where memory ran out before."""
    usual = float(trial.training["micro_batch_seconds"])
    if trial.micro_batch_scale == 1:
        return usual
    # Half of a budget that no micro-batch comes near would change nothing.
    return min(usual, bound * max(utterances.seconds, default=usual)) * trial.micro_batch_scale


def split_of(trial: Trial, name: str | Sequence[str], model: Wav2Vec2ForCTC, vocabulary: Vocabulary) -> Split:
    """Take what a trial uses of a split, or of several, with all that its model needs of an utterance."""
    store = Store.open(trial.store)
    options = model_options.of(trial.sections, store)
    columns, column = (*trial.groups, *options.columns), trial.model.get("reduction_group", "group")
    return routed(split(store, name, vocabulary, model, columns, column, Usage.of(trial.training)), options)


def routed(utterances: Split, options: ModelOptions) -> Split:
    """Tell a model with branches the task of each utterance; for other models nothing changes."""
    if not options.tasks:
        return utterances
    return dataclasses.replace(utterances, model_inputs={"task": options.task_codes(utterances.columns)})


def with_classes(utterances: Split, options: ModelOptions) -> Split:
    """Make ready what the auxiliary classifier is trained with: classes, and the frames that it may look at."""
    return dataclasses.replace(
        utterances,
        model_inputs={**utterances.model_inputs, "frame_count": utterances.frames},
        class_code=options.class_codes(utterances.columns),
    )


def _for_groups(reduction: Reduction, groups: tuple[str, ...]) -> Reduction:
    """Leave out the weights of groups that no CTC loss comes from (`training_type = unsupervised`)."""
    if reduction.name != "dataset_weighted":
        return reduction
    kept = {group: weight for group, weight in reduction.parameters.items() if group in groups}
    return dataclasses.replace(reduction, parameters=kept)


def _masks(model: Wav2Vec2ForCTC, seed: int) -> TimeMasks | None:
    """Draw SpecAugment's time masks ourselves where the model's configuration has any."""
    config = model.config
    if not config.apply_spec_augment or not config.mask_time_prob:
        return None
    return TimeMasks(config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks, seed)


def training_arguments(given: Mapping[str, Any], output_dir: Path) -> transformers.TrainingArguments:
    """Build the Trainer's arguments: what the experiment file gives, and what lossgrid decides itself."""
    ours = {
        "output_dir": str(output_dir),
        "gradient_accumulation_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "save_total_limit": None,
        "logging_nan_inf_filter": False,
        "save_only_model": False,
        "ignore_data_skip": False,
        # Whatever is watched here is better when it is lower.
        "greater_is_better": False,
        "metric_for_best_model": given.get("metric_for_best_model") or "nll_per_label",
        "use_cpu": not hardware.uses_gpu(given),
    }
    arguments = transformers.TrainingArguments(**{**given, **ours})
    # A process that sees several GPUs (a probe, a worker that was given two) trains on one: DataParallel would cut
    # micro-batches once more and average what is to be summed. transformers sets the same attribute for its own reasons.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def autocast(arguments: transformers.TrainingArguments) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the autocast context of a forward outside training, in the precision that training would have."""
    dtype = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None
    return lambda: nullcontext() if dtype is None else torch.autocast(arguments.device.type, dtype)
