"""`tiny`: a wav2vec2-CTC of 0.3 million weights that learns from scratch, within seconds, on one CPU core.

It is the real architecture (`Wav2Vec2ForCTC`) made small, for the sample corpus, for tests and for trying a study out;
310,192 weights with a vocabulary of 32. Two wide convolutions replace the seven of wav2vec2: they have the same
total stride (320 samples, 20 ms) at a fraction of the cost.

Layer norm instead of group norm in the convolutions (`feat_extract_norm="layer"`), because group norm runs over padded
time: the loss of an utterance would depend on its batch mates, and with it on how an update is cut into micro-batches.
For the same reason nothing is random in a forward pass: no dropout, no LayerDrop, no SpecAugment, unless overridden.

The first convolution starts as a filter bank (mel-spaced tones in four phases under a window, as a learnable
spectrogram) and is trained like every other weight. On the sample corpus (validation, one seed) this gives a WER of
0.25 after 11 epochs; random filters give 0.61, and 0.44 after 22.

Dimension key: B utterances, S samples (16 kHz), K samples of a filter, F filters, T frames, V vocabulary.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from trainables.errors import DataError
from trainables.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import nn
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

SAMPLE_RATE_HZ = 16_000
NUM_PHASES = 4
LOWEST_HZ, HIGHEST_HZ = 80.0, 7_000.0
# Speech loses about 6 dB per octave above this frequency; the filters give it back, so that consonants are heard.
TILT_HZ = 300.0

_KERNELS, _STRIDES = (320, 3), (160, 2)
DEFAULTS: Mapping[str, object] = {
    "conv_dim": (128, 128),
    "conv_kernel": _KERNELS,
    "conv_stride": _STRIDES,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "hidden_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
}
# Decided by the text of the corpus, not by the experiment file.
GIVEN_BY_THE_VOCABULARY = frozenset({"vocab_size", "pad_token_id"})
# Utterances are checked for these frames before any trial starts.
_FIXED = frozenset({"conv_kernel", "conv_stride"})


def vocabulary(pretrained_model_name: str | None) -> None:
    """Say that the labels come from the training transcripts.

    Raises:
        DataError: a checkpoint is named; this model starts from scratch.
    """
    if pretrained_model_name is not None:
        raise DataError(
            f"pretrained_model_name = {pretrained_model_name!r} has no effect with model_type = tiny, which starts from "
            "scratch; set model_type = base, or leave it out"
        )


def convolutions(pretrained_model_name: str | None) -> tuple[tuple[int, int], ...]:
    """Return (kernel, stride) of each layer of the feature encoder."""
    return tuple(zip(_KERNELS, _STRIDES))


def features(pretrained_model_name: str | None) -> Wav2Vec2FeatureExtractor:
    """Make the feature extractor: zero mean and unit variance per utterance, with an attention mask."""
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE_HZ, padding_value=0.0, do_normalize=True, return_attention_mask=True
    )


def build(
    vocabulary: Vocabulary, overrides: Mapping[str, object], pretrained_model_name: str | None = None
) -> Wav2Vec2ForCTC:
    """Build the model with fresh weights from torch's current random state.

    It maps input_values_BS and attention_mask_BS to logits_BTV; call it without labels: the loss is computed elsewhere.

    Args:
        vocabulary: its labels, blank included.
        overrides: further fields of `Wav2Vec2Config`; they win over `DEFAULTS`.
        pretrained_model_name: must be None.

    Raises:
        DataError: a field that `Wav2Vec2Config` does not have, or that is not free here.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    _check(overrides)
    values: dict[str, Any] = {**DEFAULTS, **overrides, "vocab_size": len(vocabulary), "pad_token_id": vocabulary.blank}
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**values))
    encoder = model.wav2vec2.feature_extractor
    _start_as_filter_bank(cast("nn.Conv1d", encoder.conv_layers[0].conv))
    # transformers asks for the gradient of the audio itself, for gradient checkpointing only; it is the dearest
    # convolution of the backward pass and nothing reads it. The weights keep their gradients.
    encoder._requires_grad = False
    return model


def _check(overrides: Mapping[str, object]) -> None:
    from transformers import Wav2Vec2Config

    known = {field.name for field in fields(Wav2Vec2Config)} - GIVEN_BY_THE_VOCABULARY
    for name in overrides:
        if name in GIVEN_BY_THE_VOCABULARY:
            raise DataError(f"{name!r} cannot be set for the model 'tiny': the vocabulary decides it; leave it out.")
        if name in _FIXED:
            raise DataError(f"{name!r} cannot be set for the model 'tiny': its frames are fixed; leave it out.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "use a field of transformers.Wav2Vec2Config."
            raise DataError(f"{name!r} is not a setting of the model 'tiny': {hint}")


def _start_as_filter_bank(convolution: nn.Conv1d) -> None:
    """Overwrite the first convolution by mel-spaced tones at 0, 90, 180 and 270 degrees; spare filters stay random.

    Four phases, because the activation passes one sign only: a later layer adds them up to the energy at a frequency.
    """
    import torch

    weight_F1K = convolution.weight
    with torch.no_grad():
        num_tones, length = weight_F1K.shape[0] // NUM_PHASES, weight_F1K.shape[-1]
        low, high = (2595 * math.log10(1 + hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
        tone_hz_F1 = (700 * (10 ** (torch.linspace(low, high, num_tones) / 2595) - 1))[:, None]
        seconds_1K = ((torch.arange(length) - (length - 1) / 2) / SAMPLE_RATE_HZ)[None, :]
        # Bandwidth grows with frequency as in the ear, so high tones get shorter windows.
        bandwidth_hz_F1 = (0.08 * tone_hz_F1).clamp(min=60.0)
        window_FK = torch.exp(-0.5 * (2 * math.pi * bandwidth_hz_F1 * seconds_1K) ** 2) * torch.hann_window(
            length, False
        )
        for phase in range(NUM_PHASES):
            tone_FK = window_FK * torch.cos(2 * math.pi * tone_hz_F1 * seconds_1K + phase * 2 * math.pi / NUM_PHASES)
            tone_FK = tone_FK - tone_FK.mean(dim=1, keepdim=True)
            tone_FK = tone_FK / tone_FK.norm(dim=1, keepdim=True) * (1 + tone_hz_F1 / TILT_HZ)
            weight_F1K[phase * num_tones : (phase + 1) * num_tones, 0] = tone_FK
        if convolution.bias is not None:
            convolution.bias.zero_()
