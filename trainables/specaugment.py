"""SpecAugment in time, drawn for each utterance by itself.

transformers draws masks for a whole padded batch, so that they depend on the batch mates, and masks at least two spans
however short an utterance is: a single word loses four times as much of itself as a sentence. Here the masks of an
utterance follow from seed, epoch and utterance alone, by default without a minimum, and never exceed its frames.

T frames of an utterance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TimeMasks:
    """How frames are masked.

    Attributes:
        probability: expected part of the frames inside a span, overlaps counted twice, in [0, 1].
        length: frames of one span; shortened to the utterance where that is shorter.
        min_spans: spans that every utterance gets, as far as they fit without overlap.
        seed: of the trial.
    """

    probability: float
    length: int
    min_spans: int
    seed: int

    def draw(self, frames: int, epoch: int, utterance: int) -> np.ndarray:
        """Draw the mask of one utterance in one epoch.

        Args:
            frames: T, without padding.
            epoch: from 0.
            utterance: position in the training split.

        Returns:
            masked_T, bool.

        Reference: Park et al. 2019, https://doi.org/10.21437/Interspeech.2019-2680; spans as in wav2vec 2.0, Baevski et
            al. 2020, https://arxiv.org/abs/2006.11477, appendix B.
        """
        masked_T = np.zeros(frames, dtype=bool)
        length = min(self.length, frames)
        if length < 1:
            return masked_T
        rng = np.random.default_rng([self.seed, epoch, utterance])
        # Rounding by chance keeps the expected fraction right for utterances of any length.
        spans = int(self.probability * frames / self.length + rng.random())
        spans = min(max(spans, self.min_spans), frames // length)
        starts = rng.choice(frames - length + 1, size=min(spans, frames - length + 1), replace=False)
        for start in starts:
            masked_T[start : start + length] = True
        return masked_T
