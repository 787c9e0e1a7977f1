"""`multitask_aux`: `base` with a classifier that tells groups of speakers apart, or with gradient reversal unlearns to.

It starts from a wav2vec2 checkpoint (`pretrained_model_name`), or from scratch in the size of `tiny`. See docs/models.md
for what differs from the original experiment.
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
    from trainables.auxiliary import AuxiliaryForCTC

KEYS = frozenset(
    {
        "reinitialize_last_n_layers", "freeze_encoder", "task_group", "no_control_layer", "classes", "task_weight",
        "domaincls_loc", "training_type", "gradient_reversal", "gradient_reversal_lambda", "gradient_reversal_schedule",
    }
)  # fmt: skip


def start(name: str | None) -> Checkpoint | Scratch:
    """Return what the model starts from: a checkpoint, by folder or hub name, or scratch."""
    return Scratch("multitask_aux") if name is None else Checkpoint(name, "multitask_aux", own="AuxiliaryForCTC")


def check(options: ModelOptions, pretrained_model_name: str | None, overrides: Mapping[str, Any]) -> None:
    """Check that the model can be built as asked.

    Raises:
        DataError: layers that there are not, or a trained model with other classes or its classifier elsewhere.
    """
    origin = start(pretrained_model_name)
    layers = origin.layers(overrides)
    options.check_reinitialized(layers)
    options.check_location(layers)
    saved = origin.saved()
    if "lossgrid_classes" not in saved:
        return
    if tuple(saved["lossgrid_classes"]) != options.classes:
        raise DataError(
            f"the model {pretrained_model_name!r} tells apart {', '.join(saved['lossgrid_classes'])}, and the column "
            f"{options.class_column} of the training set has {', '.join(options.classes)}; they must be the same"
        )
    if saved["lossgrid_location"] != options.location:
        raise DataError(
            f"the classifier of the model {pretrained_model_name!r} sees {saved['lossgrid_location']!r}, and "
            f"domaincls_loc = {options.location!r}; they must be the same"
        )


def build(
    vocabulary: Vocabulary,
    overrides: Mapping[str, Any],
    pretrained_model_name: str | None,
    options: ModelOptions,
) -> AuxiliaryForCTC:
    """Load a checkpoint or start from scratch; the classifier is fresh, unless the checkpoint has it.

    Args:
        vocabulary: its labels, blank included.
        overrides: fields of `Wav2Vec2Config` that win over those of the start.
        pretrained_model_name: local path or hub name; None: from scratch.
        options: classes, the layer that the classifier sees, and layers to start afresh.

    Raises:
        DataError: the checkpoint cannot be used, or options and layers do not fit each other.
    """
    from trainables.auxiliary import AuxiliaryForCTC
    from trainables.branches import reinitialize

    check(options, pretrained_model_name, overrides)
    own = {"lossgrid_classes": list(options.classes), "lossgrid_location": options.location}
    origin = start(pretrained_model_name)
    if isinstance(origin, Checkpoint):
        model = origin.load(AuxiliaryForCTC, vocabulary, overrides, own, fresh=("classifier.",))
    else:
        model = origin.load(AuxiliaryForCTC, vocabulary, overrides, own)
    reinitialize(model, model.wav2vec2.encoder.layers, options.reinitialized_layers)
    return model
