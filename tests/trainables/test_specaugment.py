from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.specaugment import TimeMasks


@given(
    frames=st.integers(0, 300), length=st.integers(1, 40), probability=st.floats(0, 1), least=st.integers(0, 4),
    utterance=st.integers(0, 9),
)  # fmt: skip
def test_a_mask_never_exceeds_the_utterance_however_short(frames, length, probability, least, utterance) -> None:
    masked = TimeMasks(probability, length, least, seed=1).draw(frames, epoch=0, utterance=utterance)
    assert masked.shape == (frames,)
    assert probability > 0 or least > 0 or not masked.any()


def test_a_mask_follows_from_seed_epoch_and_utterance_alone() -> None:
    masks = TimeMasks(0.2, 5, 0, seed=1)
    first = masks.draw(80, 3, 7)
    assert np.array_equal(first, masks.draw(80, 3, 7))
    others = [masks.draw(80, 4, 7), masks.draw(80, 3, 8), TimeMasks(0.2, 5, 0, seed=2).draw(80, 3, 7)]
    assert not any(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("frames", [12, 40, 180])
def test_short_words_lose_no_larger_part_than_sentences(frames: int) -> None:
    """The expected part is the probability for every length, less overlaps; two spans at least would mask 4 in 5 of a word."""
    masks = TimeMasks(0.05, 10, 0, seed=1)
    part = np.mean([masks.draw(frames, epoch, 0).mean() for epoch in range(2000)])
    assert part == pytest.approx(0.05, abs=0.01)
    assert TimeMasks(0.05, 10, 2, seed=1).draw(20, 0, 0).mean() > 0.5
