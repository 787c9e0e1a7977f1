"""Does everything run on this machine? `python launch.py --grid smoke`: two short trials on a fifth of the sample corpus.

About a minute on two cores, most of it start-up. The numbers mean nothing. With `--data` or `--config`, the same on
your own: one epoch of a small part of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.config import Configuration
from launcher.study import Study, grid, make
from search_spaces import losses
from trainables import reductions, variants

QUESTION = "Does everything run on this machine?"

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    **losses.DEFAULTS,
    "Trainer Arguments": {**losses.DEFAULTS["Trainer Arguments"], "num_train_epochs": 1},
    "Training Configuration": {"dataset_path": "sample", "debug_dataset": 0.2},
    "Study": {"reduction": "sum, mean", "seed": "1", "baseline": "mean", "groups": "group"},
}


def study(configuration: Configuration) -> Study:
    """Cross the axes of the configuration.

    Raises:
        DataError: a cell names a reduction or model that does not exist.
    """
    cells = [
        cell.with_values({"Model Configuration.reduction": str(reductions.parse(cell.model.reduction))})
        for cell in grid(configuration)
    ]
    for cell in cells:
        variants.require("trainables.models", cell.model.model_type)
    return make(
        configuration,
        cells,
        name="smoke",
        question=QUESTION,
        train_fn="trainables.wav2vec2_ctc:train_fn",
        prepare="trainables.preflight:ready",
        results_version=variants.RESULTS_VERSION,
    )
