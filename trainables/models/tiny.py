"""`tiny`: a wav2vec2-CTC of 0.3 million weights that learns from scratch, within seconds, on one CPU core.

For the sample corpus, for tests and for trying a study out. What it is made of is in `trainables.scratch`.

Dimension key: B utterances, S samples (16 kHz), T frames, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables import weights
from trainables.errors import DataError
from trainables.model_options import PLAIN, ModelOptions
from trainables.pretrained import Checkpoint
from trainables.scratch import Scratch
from trainables.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Wav2Vec2ForCTC

KEYS = frozenset({"reinitialize_last_n_layers", "freeze_encoder"})
_SCRATCH = Scratch("tiny")


def start(name: str | None) -> Checkpoint | Scratch:
    """Return what the model starts from: scratch, or a `tiny` that was trained.

    Raises:
        DataError: another checkpoint is named.
    """
    if name is None:
        return _SCRATCH
    trained = Checkpoint(name, "tiny")
    folder = weights.folder_of(name)
    if folder is None or trained.convolutions() != _SCRATCH.convolutions():
        what = "is no folder of one" if Path(name).expanduser().exists() else "does not exist"
        raise DataError(
            f"model_type = tiny starts from scratch or from a model that it trained, and {name!r} {what}; "
            "set model_type = base, or leave it out"
        )
    return trained


def check(options: ModelOptions, pretrained_model_name: str | None, overrides: Mapping[str, Any]) -> None:
    """Check that the model can be built as asked; raises DataError."""
    options.check_reinitialized(start(pretrained_model_name).layers(overrides))


def build(
    vocabulary: Vocabulary,
    overrides: Mapping[str, object],
    pretrained_model_name: str | None = None,
    options: ModelOptions = PLAIN,
) -> Wav2Vec2ForCTC:
    """Build the model with fresh weights from torch's current random state, or load a trained one.

    It maps input_values_BS and attention_mask_BS to logits_BTV; call it without labels: the loss is computed elsewhere.

    Args:
        vocabulary: its labels, blank included.
        overrides: further fields of `Wav2Vec2Config`; they win over the defaults of `trainables.scratch`.
        pretrained_model_name: folder of a trained `tiny`; None: from scratch.
        options: layers to start afresh.

    Raises:
        DataError: a field that `Wav2Vec2Config` does not have, or that is not free here.
    """
    from transformers import Wav2Vec2ForCTC

    from trainables.branches import reinitialize

    check(options, pretrained_model_name, overrides)
    model = start(pretrained_model_name).load(Wav2Vec2ForCTC, vocabulary, overrides)
    reinitialize(model, model.wav2vec2.encoder.layers, options.reinitialized_layers)
    return model
