"""`multitask`: a shared encoder with a branch of transformer layers and an output layer for each group of speakers.

It starts from a wav2vec2 checkpoint (`pretrained_model_name`), or from scratch in the size of `tiny`. With branches that
are plain copies it gives the logits of `base`; see docs/models.md for what differs from the original experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainables.errors import DataError
from trainables.model_options import ModelOptions
from trainables.pretrained import Checkpoint
from trainables.scratch import Scratch
from trainables.vocabulary import Vocabulary

if TYPE_CHECKING:
    from trainables.branches import MultitaskForCTC

KEYS = frozenset({"reinitialize_last_n_layers", "branch_layers", "task_group", "no_control_layer", "freeze_encoder"})


def start(name: str | None) -> Checkpoint | Scratch:
    """Return what the model starts from: a checkpoint, by folder or hub name, or scratch."""
    return Scratch("multitask") if name is None else Checkpoint(name, "multitask", own="MultitaskForCTC")


def check(options: ModelOptions, pretrained_model_name: str | None, overrides: Mapping[str, Any]) -> None:
    """Check that the model can be built as asked.

    Raises:
        DataError: layers that there are not, or a trained multitask model with other tasks or branches.
    """
    origin = start(pretrained_model_name)
    options.check_branches(origin.layers(overrides))
    saved = origin.saved()
    if "lossgrid_tasks" not in saved:
        return
    if tuple(saved["lossgrid_tasks"]) != options.tasks:
        raise DataError(
            f"the model {pretrained_model_name!r} has branches for {', '.join(saved['lossgrid_tasks'])}, and the column "
            f"{options.task_column} of the training set has {', '.join(options.tasks)}; they must be the same"
        )
    if saved["lossgrid_branch_layers"] != options.branch_layers:
        raise DataError(
            f"the model {pretrained_model_name!r} has branches of {saved['lossgrid_branch_layers']} layers, and "
            f"{options.branch_layers} are asked for; set branch_layers = {saved['lossgrid_branch_layers']}"
        )


def build(
    vocabulary: Vocabulary,
    overrides: Mapping[str, Any],
    pretrained_model_name: str | None,
    options: ModelOptions,
) -> MultitaskForCTC:
    """Load a checkpoint or start from scratch, and branch it; a trained multitask model has its branches already.

    Args:
        vocabulary: its labels, blank included.
        overrides: fields of `Wav2Vec2Config` that win over those of the start.
        pretrained_model_name: local path or hub name; None: from scratch.
        options: tasks, layers of the branches, and how many of them start afresh.

    Raises:
        DataError: the checkpoint cannot be used, or options and layers do not fit each other.
    """
    from transformers import Wav2Vec2ForCTC

    from trainables.branches import MultitaskForCTC

    check(options, pretrained_model_name, overrides)
    origin = start(pretrained_model_name)
    if isinstance(origin, Checkpoint) and origin.is_own:
        model = origin.load(MultitaskForCTC, vocabulary, overrides)
        model.reinitialize(options.reinitialized_layers)
        return model
    source = origin.load(Wav2Vec2ForCTC, vocabulary, overrides)
    return MultitaskForCTC.from_ctc(source, options.tasks, options.branch_layers, options.reinitialized_layers)
