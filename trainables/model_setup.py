"""What a trial trains, made from its configuration: model, data, Trainer and evaluators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import distributed, reductions, variants
from trainables.corpora.store import Store
from trainables.dataset import Loader, UpdateLoader, UpdateSampler, split
from trainables.evaluation import Evaluator
from trainables.specaugment import TimeMasks
from trainables.trainer import UpdateTrainer
from trainables.trial import Trial
from trainables.vocabulary import Vocabulary

_OWN_MODEL_KEYS = frozenset(
    ("model_type", "pretrained_model_name", "reduction", "reduction_group", "match_step", "ctc_zero_infinity")
) | {"freeze_feature_extractor"}


def model_of(trial: Trial) -> tuple[Wav2Vec2ForCTC, Vocabulary, Wav2Vec2FeatureExtractor]:
    """Build the model, with the vocabulary and the feature extractor that belong to it."""
    settings = trial.model
    module = variants.load("trainables.models", settings["model_type"])
    pretrained = settings.get("pretrained_model_name")
    vocabulary = module.vocabulary(pretrained) or Store.open(trial.store).vocabulary
    overrides = {name: value for name, value in settings.items() if name not in _OWN_MODEL_KEYS and value is not None}
    # transformers' default of 2 masks a large part of every short word: a confound of length.
    overrides.setdefault("mask_time_min_masks", 0)
    model = module.build(vocabulary, overrides, pretrained)
    if settings["freeze_feature_extractor"]:
        model.freeze_feature_encoder()
    return model, vocabulary, module.features(pretrained)


def trainer_of(
    trial: Trial, model: Wav2Vec2ForCTC, vocabulary: Vocabulary, features: Wav2Vec2FeatureExtractor
) -> tuple[UpdateTrainer, dict[str, Evaluator]]:
    """Make the Trainer, and the evaluator of each split that is scored."""
    store, arguments = Store.open(trial.store), trial.arguments
    bound = int(arguments.get("per_device_train_batch_size", 8))
    update_size = bound * int(arguments.pop("gradient_accumulation_steps", 1))
    budget = float(trial.training["micro_batch_seconds"])
    seed = int(arguments.get("seed", 42) if arguments.get("data_seed") is None else arguments["data_seed"])
    training = split(store, "train", vocabulary, model, trial.groups, trial.model.get("reduction_group", "group"))
    sampler = UpdateSampler(len(training), update_size, seed)
    loader = Loader(
        training, features, budget, bound, distributed.rank(), distributed.world_size(), _masks(model, seed), sampler
    )
    evaluators = {
        name: Evaluator(
            split(store, name, vocabulary, model, trial.groups), vocabulary, features, trial.groups, budget,
            int(arguments.get("per_device_eval_batch_size", bound)),
        )
        for name in dict.fromkeys(("validation", trial.training["test_set"]))
    }  # fmt: skip
    trainer = UpdateTrainer(
        model,
        training_arguments(arguments, trial.folder / "checkpoints"),
        loader=UpdateLoader(loader, sampler, int(arguments.get("dataloader_num_workers", 0))),
        reduction=reductions.parse(trial.model["reduction"]),
        evaluator=evaluators["validation"],
        blank=vocabulary.blank,
        zero_infinity=trial.model["ctc_zero_infinity"],
        keep_checkpoints=int(arguments.get("save_total_limit") or 1),
        match_step=bool(trial.model.get("match_step")),
    )
    distributed.copy_from_first([*model.parameters(), *model.buffers()])  # now that they are where they are trained
    return trainer, evaluators


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
        "use_cpu": not torch.cuda.is_available() or bool(given.get("use_cpu", False)),
    }
    return transformers.TrainingArguments(**{**given, **ours})
