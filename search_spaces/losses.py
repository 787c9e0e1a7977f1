"""Which utterances does each reduction listen to, and what does that do to the word error rate of each group?

`python launch.py --grid losses`: four reductions x two seeds on the sample corpus with the tiny model; a few minutes on
two cores. With `--config` or `--data`, the same question on your own.
"""

from __future__ import annotations

import dataclasses

from launcher.config import Configuration
from launcher.study import Study, grid
from search_spaces._trials import study_of

QUESTION = "Which utterances does each loss reduction listen to, and what does that do to the WER of each group?"

DEFAULTS = {
    "Trainer Arguments": {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "learning_rate": 6e-3,
        "warmup_steps": 0.2,
        "lr_scheduler_type": "linear",
        "num_train_epochs": 9,
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_steps": 1,
    },
    "Training Configuration": {"dataset_path": "sample"},
    "Model Configuration": {"model_type": "tiny", "reduction": "mean"},
    "Study": {
        "reduction": "sum, mean, utterance_mean, token_mean",
        "seed": "1, 2",
        "baseline": "mean",
        "groups": "group",
    },
}
# The sample corpus has a second column worth looking at; other data are asked for `group` alone.
SAMPLE_GROUPS = ("group", "speaker_type")


def study(configuration: Configuration) -> Study:
    """Cross the axes of the configuration (reductions x seeds unless it says otherwise).

    Raises:
        DataError: a cell names a reduction or model that does not exist.
    """
    if configuration.training.dataset_path == "sample" and configuration.groups == ("group",):
        configuration = dataclasses.replace(configuration, groups=SAMPLE_GROUPS)
    return study_of(configuration, grid(configuration), name="losses", question=QUESTION)
