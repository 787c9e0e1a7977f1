"""Which keys there are, which ones there were, and which ones mean nothing here.

Old experiment files (the original experiment's, and those of older transformers) use other spellings; each is
understood, with a warning that shows today's. To add one is a line in a table below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launcher.config_schema import MODEL, SECTIONS, TRAINER, TRAINING, keys
from launcher.config_values import nearest

#: Old spelling -> "Section.key" of today; two keys where one stood for both; "key = value" where a value was a key.
RENAMED: dict[str, tuple[str, ...]] = {
    "evaluation_strategy": (f"{TRAINER}.eval_strategy",),
    "train_batch_size": (f"{TRAINER}.per_device_train_batch_size",),
    "eval_batch_size": (f"{TRAINER}.per_device_eval_batch_size",),
    "batch_size": (f"{TRAINER}.per_device_train_batch_size", f"{TRAINER}.per_device_eval_batch_size"),
    "per_gpu_train_batch_size": (f"{TRAINER}.per_device_train_batch_size",),
    "per_gpu_eval_batch_size": (f"{TRAINER}.per_device_eval_batch_size",),
    "warmup_ratio": (f"{TRAINER}.warmup_steps",),
    "no_cuda": (f"{TRAINER}.use_cpu",),
    "lr": (f"{TRAINER}.learning_rate",),
    "lr_scheduler": (f"{TRAINER}.lr_scheduler_type",),
    "epochs": (f"{TRAINER}.num_train_epochs",),
    "num_epochs": (f"{TRAINER}.num_train_epochs",),
    "accumulation_steps": (f"{TRAINER}.gradient_accumulation_steps",),
    "data": (f"{TRAINING}.dataset_path",),
    "raw_data_path": (f"{TRAINING}.processed_data_path",),
    "filter_contols": (f"{TRAINING}.filter_controls",),
    "model_type": (f"{MODEL}.model_type",),
    "pretrained_model": (f"{MODEL}.pretrained_model_name",),
    "pretrained_model_name": (f"{MODEL}.pretrained_model_name",),
    "pretrained_model_name_or_path": (f"{MODEL}.pretrained_model_name",),
    "ctc_loss_reduction": (f"{MODEL}.reduction",),
    "ctc_zero_infinity": (f"{MODEL}.ctc_zero_infinity",),
    "freeze_feature_extractor": (f"{MODEL}.freeze_feature_extractor",),
    "freeze_feature_encoder": (f"{MODEL}.freeze_feature_extractor",),
    "reinitialize_last_layers": (f"{MODEL}.reinitialize_last_n_layers",),
    "dataset_loss_weighting = no_control_layer": (f"{MODEL}.no_control_layer",),
}
#: Aliases that stay: they are documented, so nobody needs to be told about another spelling.
QUIET = frozenset({"data"})

#: Old values -> values of today.
RENAMED_VALUES: dict[tuple[str, str], str] = {
    (f"{TRAINER}.optim", "adamw_hf"): "adamw_torch",
    (f"{TRAINER}.log_level", "message"): "info",
    (f"{TRAINER}.report_to", "None"): "none",
    (f"{TRAINING}.test_set", "all"): "both",
    (f"{TRAINING}.debug_dataset", "True"): "0.0125",
    (f"{TRAINING}.debug_dataset", "true"): "0.0125",
    (f"{MODEL}.model_type", "wav2vec"): "base",
    (f"{MODEL}.model_type", "wav2vec2"): "base",
    (f"{MODEL}.no_control_layer", "no_control_layer"): "True",
    (f"{MODEL}.classes", "task"): "group",
    (f"{MODEL}.classes", "speakers"): "speaker",
    (f"{MODEL}.classes", "intelligibility"): "severity",
    (f"{MODEL}.domaincls_loc", "other"): "final",
    (f"{MODEL}.domaincls_loc", "ctc_layer"): "final",
}
#: What a person has to know of a new value beside the value: the old one did not do what was said of it.
REMARKS: dict[tuple[str, str], str] = {
    (
        f"{TRAINING}.debug_dataset",
        "0.0125",
    ): "the original's True kept 1.25 % of each split, though its readme said 10 %",
}
#: The key whose value True stood for the folder of another key.
LOAD_MODEL, OUTPUT_DIR = f"{TRAINING}.load_model", "output_dir"

_HUB = "no trial is uploaded"
_SHARDED = "a trial shares its updates out by Ray Train's data parallelism"
#: Fields of TrainingArguments that a trial cannot follow, with the reason.
REFUSED: dict[str, str] = {
    "push_to_hub": _HUB,
    **{f"hub_{name}": _HUB for name in ("token", "private_repo", "model_id", "strategy", "always_push", "revision")},
    "deepspeed": _SHARDED,
    "fsdp": _SHARDED,
    "fsdp_config": _SHARDED,
    "parallelism_config": _SHARDED,
    "auto_find_batch_size": "the batch size decides the size of an update, so no machine may change it",
    "bf16_full_eval": "evaluation runs in the precision of training",
    "fp16_full_eval": "evaluation runs in the precision of training",
    "label_smoothing_factor": "lossgrid computes the CTC loss itself, and that has no label smoothing",
}

_PACKED = "every update is packed by length into micro-batches, which replaces it"
_REMOVED = "transformers has removed it"
#: Keys that change nothing here, with the reason.
NO_EFFECT: dict[str, str] = {
    OUTPUT_DIR: "--out decides where results go",
    "overwrite_output_dir": "--out decides where results go",
    "logging_dir": "--out decides where results go",
    "remove_unused_columns": "lossgrid's own data loader decides what the model sees",
    "group_by_length": _PACKED,
    "train_sampling_strategy": _PACKED,
    "length_column_name": _PACKED,
    "average_tokens_across_devices": "the loss is always normalised over the whole update",
    **{
        f"dataloader_{name}": "whole updates are loaded, by dataloader_num_workers processes"
        for name in ("drop_last", "pin_memory", "prefetch_factor", "persistent_workers")
    },
    "save_only_model": "an interrupted trial goes on from optimizer and random state too",
    "ignore_data_skip": "an interrupted trial goes on where it stopped",
    "processed_data_path": "dataset_path or --data says where the data are",
    "generate_new_data": "a store is made anew whenever the data change",
    "greater_is_better": "every score is better when it is lower",
    "resume_from_checkpoint": "a trial goes on from its newest checkpoint by itself",
    "local_rank": "Ray Train numbers the workers",
    "use_mps_device": f"{_REMOVED}; the device is found",
    "save_safetensors": f"{_REMOVED}; models are always saved as safetensors",
    **{name: _REMOVED for name in ("half_precision_backend", "fp16_backend", "fp16_opt_level", "past_index")},
    **{name: _REMOVED for name in ("jit_mode_eval", "use_ipex", "xpu_backend", "tpu_num_cores", "mp_parameters")},
}


@dataclass(frozen=True)
class Meaning:
    """What a key means: the live keys that it sets (several when it stood for two), or why it sets none.

    Attributes:
        targets: "Section.key" of the live keys; empty when the key sets nothing.
        spelling: today's spelling where the key has none that is live, otherwise the key itself.
        no_effect: why any value of the key changes nothing; empty otherwise.
        refused: why only a value that asks for nothing is allowed; empty otherwise.
        unknown: what to say of a key that does not exist; empty otherwise.
    """

    targets: tuple[str, ...] = ()
    spelling: str = ""
    no_effect: str = ""
    refused: str = ""
    unknown: str = ""


def meaning(section: str | None, key: str, value: Any = None) -> Meaning:
    """Look a key up in one section, or in all of them when `section` is None; its value may have been another key."""
    if key in REFUSED:
        return Meaning(spelling=key, refused=f"is not supported: {REFUSED[key]}")
    moved = RENAMED.get(f"{key} = {value}")
    homes = [name for name in SECTIONS if section in (name, None) and key in keys(name)]
    if homes and not moved and key not in NO_EFFECT:
        if len(homes) == 1:
            return Meaning(targets=(f"{homes[0]}.{key}",), spelling=key)
        spellings = " or ".join(repr(f"{name}.{key}") for name in homes)
        return Meaning(unknown=f"more than one section has this key; write {spellings}")
    targets = moved or RENAMED.get(key, (f"{section}.{key}",))
    spelling = targets[0].partition(".")[2]
    if spelling in NO_EFFECT:
        return Meaning(spelling=spelling, no_effect=NO_EFFECT[spelling])
    if moved or key in RENAMED:
        return Meaning(targets=targets, spelling=spelling)
    return Meaning(unknown=f"unknown key{_suggestion(section, key)}")


def asks_for_nothing(value: Any) -> bool:
    """Return whether the value of a key that is not supported only says that it is off."""
    return str(value).strip().strip("\"'").lower() in ("", "none", "false", "no", "off", "0", "0.0", "[]")


def renamed_value(target: str, value: Any, output_dir: str | None = None) -> Any:
    """Return today's spelling of a value as it is written in a file; a value that has its type already stays.

    Args:
        target: the "Section.key" that is set.
        value: what stands there.
        output_dir: the folder that `load_model = True` means.
    """
    if not isinstance(value, str):
        return value
    if target == LOAD_MODEL and is_true(value) and output_dir is not None:
        return output_dir
    return RENAMED_VALUES.get((target, value.strip()), value)


def is_true(value: Any) -> bool:
    """Return whether a value as written says True."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _suggestion(section: str | None, key: str) -> str:
    elsewhere = [name for name in SECTIONS if key in keys(name)]
    if elsewhere:
        return f" here; it belongs to [{elsewhere[0]}]"
    own = [name for name in SECTIONS if section in (name, None)]
    for sections in (own, [name for name in SECTIONS if name not in own]):
        places = {name: home for home in sections for name in keys(home)}
        found = nearest(key, places)
        if found:
            return f"; did you mean {found!r} in [{places[found]}]?"
    old = nearest(key, [*RENAMED, *NO_EFFECT])
    if old:
        return f"; did you mean {old!r}?"
    if section in (None, TRAINER):
        return f"; [{TRAINER}] takes the fields of transformers.TrainingArguments"
    return f"; the keys of [{section}] are {', '.join(keys(section))}"
