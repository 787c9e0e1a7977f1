"""`base`: any pretrained wav2vec2, by local path or hub name, with the vocabulary and feature extractor it came with.

A checkpoint that was pretrained only gets a fresh output layer, for the characters of the training transcripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainables.model_options import PLAIN, ModelOptions
from trainables.pretrained import Checkpoint
from trainables.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Wav2Vec2ForCTC

KEYS = frozenset({"reinitialize_last_n_layers", "freeze_encoder"})


def start(name: str | None) -> Checkpoint:
    """Return what the model starts from: a checkpoint, by folder or hub name."""
    return Checkpoint(name, "base")


def check(options: ModelOptions, pretrained_model_name: str | None, overrides: Mapping[str, Any]) -> None:
    """Check that the model can be built as asked; raises DataError."""
    options.check_reinitialized(start(pretrained_model_name).layers(overrides))


def build(
    vocabulary: Vocabulary,
    overrides: Mapping[str, Any],
    pretrained_model_name: str | None = None,
    options: ModelOptions = PLAIN,
) -> Wav2Vec2ForCTC:
    """Load the checkpoint.

    Args:
        vocabulary: its labels, as `vocabulary` gave them; of the training transcripts where it gave none.
        overrides: fields of `Wav2Vec2Config` that win over those of the checkpoint (dropouts, SpecAugment).
        pretrained_model_name: local path or hub name.
        options: layers to start afresh.

    Raises:
        DataError: the checkpoint cannot be used.
    """
    from transformers import Wav2Vec2ForCTC

    from trainables.branches import reinitialize

    check(options, pretrained_model_name, overrides)
    model = start(pretrained_model_name).load(Wav2Vec2ForCTC, vocabulary, overrides)
    reinitialize(model, model.wav2vec2.encoder.layers, options.reinitialized_layers)
    return model
