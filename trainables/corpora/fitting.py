"""Which utterances every model of a study can be trained on: characters it has labels for, enough frames to align them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from trainables import variants
from trainables.vocabulary import Vocabulary, labels_needed


@dataclass(frozen=True)
class Model:
    """What must be known of a model to tell which utterances it can be trained on.

    Attributes:
        vocabulary: its labels; None: made from the training transcripts.
        convolutions: (kernel, stride) of each layer that turns samples into frames.
    """

    vocabulary: Vocabulary | None
    convolutions: tuple[tuple[int, int], ...]

    def frames(self, samples: int) -> int:
        """Count the frames that this many samples give (0 when they are shorter than the receptive field)."""
        for kernel, stride in self.convolutions:
            samples = max(0, (samples - kernel) // stride + 1)
        return samples


def model(model_type: str, pretrained_model_name: str | None) -> Model:
    """Look up a model by the name of its module.

    Raises:
        DataError: there is no such module, or its checkpoint cannot be read.
    """
    module = variants.load("trainables.models", model_type)
    start = module.start(pretrained_model_name)
    return Model(start.vocabulary(), tuple(start.convolutions()))


class Fit:
    """Checks utterances against all models of a study.

    Args:
        models: what they need.
        vocabulary: labels of those that start from scratch.
    """

    def __init__(self, models: Sequence[Model], vocabulary: Vocabulary) -> None:
        pairs = dict.fromkeys((model.vocabulary or vocabulary, model.convolutions) for model in models)
        self._models = [Model(labels, convolutions) for labels, convolutions in pairs]
        # Corpora of single words say the same few hundred words over and over.
        self._needed = lru_cache(maxsize=1 << 17)(self._needed_by)

    def problem(self, row: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return reason and detail where a model cannot be trained on an utterance."""
        transcript = row["transcript"]
        for model, (unknown, needed) in zip(self._models, self._needed(transcript)):
            if unknown:
                return "unknown_characters", f"{unknown!r} in {transcript!r} are not in the vocabulary"
            if (frames := model.frames(row["samples"])) < needed:
                return (
                    "transcript_too_long",
                    f"{needed} frames needed to align {transcript!r}, the audio gives {frames}",
                )
        return None

    def _needed_by(self, transcript: str) -> list[tuple[str, int]]:
        """Return for each model the characters it does not know, and the frames it needs."""
        found = []
        for model in self._models:
            assert model.vocabulary is not None
            unknown = model.vocabulary.unknown_characters(transcript)
            found.append((unknown, 0 if unknown else labels_needed(model.vocabulary.encode(transcript))))
        return found
