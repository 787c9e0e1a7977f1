"""Does everything run on this machine? `python launch.py --grid smoke`: two short trials on a fifth of the sample corpus.

About a minute on two cores, most of it start-up. The numbers mean nothing. With `--data` or `--config`, the same on
your own: one epoch of a small part of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.config import Configuration
from launcher.study import Study, grid
from search_spaces import losses
from search_spaces._trials import study_of

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
    return study_of(configuration, grid(configuration), name="smoke", question=QUESTION)
