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
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

KEYS = frozenset({"reinitialize_last_n_layers", "freeze_encoder"})


def vocabulary(pretrained_model_name: str | None) -> Vocabulary | None:
    """Read the labels of the checkpoint; None: they come from the training transcripts."""
    return _start(pretrained_model_name).vocabulary()


def convolutions(pretrained_model_name: str | None) -> tuple[tuple[int, int], ...]:
    """Return (kernel, stride) of each layer of the feature encoder."""
    return _start(pretrained_model_name).convolutions()


def features(pretrained_model_name: str | None) -> Wav2Vec2FeatureExtractor:
    """Load the feature extractor of the checkpoint: it says whether audio is normalised and masked."""
    return _start(pretrained_model_name).features()


def saved(pretrained_model_name: str | None) -> Mapping[str, Any]:
    """Return the configuration that a checkpoint was saved with; empty from scratch."""
    return _start(pretrained_model_name).saved()


def check(options: ModelOptions, pretrained_model_name: str | None, overrides: Mapping[str, Any]) -> None:
    """Check that the model can be built as asked; raises DataError."""
    options.check_reinitialized(_start(pretrained_model_name).layers(overrides))


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
    model = _start(pretrained_model_name).load(Wav2Vec2ForCTC, vocabulary, overrides)
    reinitialize(model, model.wav2vec2.encoder.layers, options.reinitialized_layers)
    return model


def _start(name: str | None) -> Checkpoint:
    return Checkpoint(name, "base")
