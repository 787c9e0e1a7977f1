"""What of a configuration makes a trial the trial that it is: all that can change its result, and nothing else. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from launcher import training_arguments
from launcher.config import Configuration

DEFAULT_SEED = 42  # transformers' own
# What cannot change a result stays out of a trial's id: where and how it runs, what is logged, how often it is saved.
_NO_EFFECT = {
    "Trainer Arguments": re.compile(
        r"^(output_dir|logging_|log_|report_to|run_name|disable_tqdm|dataloader_|save_|use_cpu|hub_|push_to_hub|do_predict|"
        r"per_device_eval_batch_size|ddp_|local_rank|resume_|skip_memory|project|trackio|include_|torch_empty)"
    ),
    "Training Configuration": re.compile(r"^(dataset_path|tensorboard|save_|micro_batch_seconds$)"),
}
# A trial that only measures a model is the same whatever the recipe of training would have been.
_MEASURING = re.compile(r"^(do_|seed$|bf16$|fp16$|full_determinism$)")
# An audit leaves the trained model what it is; in a trial that only measures, it is what was asked for.
_AUDIT = re.compile(r"^audit")
_OFF = frozenset({"None", "False", "0", "()", "[]", "'supervised'"})
_MATTERS_FOR_BEST_MODEL = re.compile(r"^save_(strategy|steps|total_limit)$")


def digest_of(identity: Mapping[str, Any]) -> str:
    """Return the 8 hex digits that a trial's id ends in.

    Args:
        identity: what makes the trial: its configuration as far as it matters, its data, the version of the training code.
    """
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def what_matters(configuration: Configuration, weights: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return what of a configuration can change a result.

    The size of an update counts, not how it is cut into micro-batches and accumulation steps. What is switched off, or
    says transformers' own default, is left out: a key that a later version adds, at rest, leaves old trials what they are.

    Args:
        configuration: resolved.
        weights: content of local checkpoints by path; it counts in the place of the path.
    """
    sections = configuration.as_dict()
    given = sections["Trainer Arguments"]
    best, trains = bool(given.get("load_best_model_at_end")), given.get("do_train") is not False
    kept = {
        section: {
            key: (weights or {}).get(value, value) if isinstance(value, str) else value
            for key, value in values.items()
            if not (_NO_EFFECT[section].match(key) if section in _NO_EFFECT else False)
            or (best and _MATTERS_FOR_BEST_MODEL.match(key))
        }
        for section, values in sections.items()
    }
    chunk = given.get("per_device_train_batch_size")
    fields = training_arguments.fields()
    kept["Trainer Arguments"] = {
        key: value
        for key, value in kept["Trainer Arguments"].items()
        if key not in ("per_device_train_batch_size", "gradient_accumulation_steps")
        and not (key in fields and fields[key].default == value and not key.startswith("do_"))
        and (trains or _MEASURING.match(key))
        and not (key in ("do_train", "do_eval") and value is not False)
    }
    for section, model in (
        ("Training Configuration", configuration.training),
        ("Model Configuration", configuration.model),
    ):
        defaults = _defaults(type(model))
        kept[section] = {
            key: value
            for key, value in kept[section].items()
            if not _is_at_rest(defaults, key, value) and not (trains and _AUDIT.match(key))
        }
    kept["Trainer Arguments"].setdefault("seed", DEFAULT_SEED)
    # Before, beginnings of names counted: the same words left out other utterances, and those trials are others.
    if configuration.training.filter_datasets or configuration.training.filter_controls:
        kept["Training Configuration"]["names"] = "whole"
    # Before, padding counted in the mean and variance of audio for models without an attention mask, which from here cannot be
    # told from those with one; `tiny` has one.
    if configuration.model.model_type != "tiny":
        kept["Model Configuration"]["normalised"] = "without padding"
    # stock_mean is the one whose fault is to depend on the micro-batch; an audit measures it too.
    if configuration.model.reduction.startswith("stock_mean") if trains else configuration.training.audit:
        kept["Trainer Arguments"]["micro_batch"] = chunk
    # What shares an update decides the weights that are audited.
    if trains or configuration.training.audit:
        kept["Trainer Arguments"]["update_size"] = configuration.update_size
    if trains and best and given.get("eval_strategy") == "steps":  # left out, it is logging_steps
        kept["Trainer Arguments"]["eval_steps"] = given.get("eval_steps") or given.get("logging_steps")
    return kept


def _is_at_rest(defaults: Mapping[str, Any], key: str, value: Any) -> bool:
    """Return whether a key of lossgrid's own sections is off, which is its default."""
    default = defaults[key]
    return (value == default or (value == [] and default == ())) and repr(value) in _OFF


@cache
def _defaults(section: type[BaseModel]) -> Mapping[str, Any]:
    # pydantic looks its fields up anew at each access: half a second of a plan of ten thousand trials.
    return {key: described.default for key, described in section.model_fields.items()}
