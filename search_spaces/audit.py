"""Which utterances does each reduction listen to in a model as it stands? Nothing is trained.

`python launch.py --grid audit --data X --set load_model=FOLDER`: every reduction of the family, measured in one pass over
the training utterances of X; `--exact N` also measures the gradient at all weights on N of them. Several models make an axis:
`--set load_model=A,B`. Without a model: `tiny` as it starts, on the sample corpus, in about half a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.config import Configuration, ConfigurationError
from launcher.study import Study, grid
from search_spaces._trials import study_of

QUESTION = "Which utterances does each loss reduction listen to in this model?"

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Trainer Arguments": {"do_train": False, "per_device_train_batch_size": 8},
    "Training Configuration": {"dataset_path": "sample", "audit": True},
    "Model Configuration": {"model_type": "tiny", "reduction": "mean"},
    "Study": {"seed": "1", "groups": "group"},
}


def study(configuration: Configuration) -> Study:
    """Cross the axes of the configuration, without training whatever it says.

    Raises:
        DataError: a cell names a reduction or model that does not exist.
        ConfigurationError: audits are switched off.
    """
    if not configuration.training.audit:
        raise ConfigurationError("--grid audit is nothing but audits, and audit = False; leave that key out")
    cells = (cell.with_values({"Trainer Arguments.do_train": False}) for cell in grid(configuration))
    return study_of(configuration, cells, name="audit", question=QUESTION)
