"""Does it help to give each group layers of its own, or to tell the groups apart, and does that depend on the reduction?

`python launch.py --grid paradigms`: three types of model x two reductions x two seeds on the sample corpus, all from scratch with
the size of `tiny`. With `--set pretrained_model_name=PATH` all start from that checkpoint.

Axes are conditional: a key that a type of model does not act on (`task_weight` of a model without a classifier) is not
varied for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from launcher.config import Configuration
from launcher.study import Study, grid, named_values
from search_spaces import losses
from search_spaces._trials import study_of
from trainables import variants

QUESTION = "Do branches or a classifier of the groups help, and does that depend on the loss reduction?"

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    **losses.DEFAULTS,
    "Model Configuration": {"model_type": "tiny", "reduction": "mean", "reinitialize_last_n_layers": 1},
    "Study": {
        "model_type": "tiny, multitask, multitask_aux",
        "reduction": "mean, utterance_mean",
        "seed": "1, 2",
        "baseline": "model_type=tiny, reduction=mean",
        "groups": "group",
    },
}
_MODEL_TYPE = "Model Configuration.model_type"


def study(configuration: Configuration) -> Study:
    """Cross types of model and reductions, each with the keys that it acts on.

    `tiny` starts from scratch; where a checkpoint is given, `base` stands in for it, also as the baseline.

    Raises:
        DataError: a cell names a reduction or model that does not exist.
    """
    specific = variants.model_keys()
    cells: dict[str, Configuration] = {}
    for cell in grid(configuration):
        model_type = cell.model.model_type
        if model_type == "tiny" and (cell.model.pretrained_model_name or cell.training.load_model):
            model_type = "base"
        idle = [key for key, types in specific.items() if model_type not in types]
        off = {f"Model Configuration.{key}": _at_rest(cell, key) for key in idle}
        settled = cell.with_values({**off, _MODEL_TYPE: model_type})
        cells.setdefault(str(settled.as_dict()), settled)
    if all(cell.model.model_type != "tiny" for cell in cells.values()):
        configuration = dataclasses.replace(configuration, baseline=_with_base(configuration.baseline))
    return study_of(configuration, cells.values(), name="paradigms", question=QUESTION)


def _with_base(baseline: str | None) -> str | None:
    """Name the baseline by the model that stands in for `tiny`."""
    if baseline is None or baseline == "tiny":
        return baseline and "base"
    named = named_values(baseline)
    if named.get("model_type") != "tiny":
        return baseline
    return ", ".join(f"{key}={value}" for key, value in {**named, "model_type": "base"}.items())


def _at_rest(cell: Configuration, key: str) -> Any:
    """Return the value of a model's key that asks for nothing."""
    return type(cell.model).model_fields[key].default
