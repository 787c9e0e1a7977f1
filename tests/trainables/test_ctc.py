"""Losses against closed forms. T frames, V labels; label 0 is the blank."""

from __future__ import annotations

import math
from itertools import groupby, pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2FeatureExtractor

from trainables import ctc


def batch(labels: list[list[int]], frames: list[int]) -> ctc.MicroBatch:
    return ctc.MicroBatch(
        position_B=list(range(len(labels))),
        inputs={},
        label_ids=torch.tensor([label for one in labels for label in one], dtype=torch.long),
        label_count_B=torch.tensor([len(one) for one in labels]),
        frame_count_B=torch.tensor(frames),
    )


def logits(frames: int, vocabulary: int = 4, utterances: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(utterances, frames, vocabulary, generator=torch.Generator().manual_seed(seed))


def loss(logits_BTV: torch.Tensor, labels: list[int], frames: int) -> float:
    return float(ctc.losses(logits_BTV, batch([labels], [frames]), blank=0))


def by_enumeration(logits_BTV: torch.Tensor, labels: list[int], frames: int) -> float:
    """Add the probability of every path that collapses to the labels."""
    probability_TV = logits_BTV[0].double().softmax(-1)
    total = 0.0
    for path in product(range(probability_TV.shape[1]), repeat=frames):
        if [label for label, _ in groupby(path) if label != 0] == labels:
            total += math.prod(float(probability_TV[frame, label]) for frame, label in enumerate(path))
    return -math.log(total)


def test_with_as_many_frames_as_labels_there_is_one_alignment() -> None:
    logits_BTV = logits(3)
    log_probability_TV = logits_BTV[0].log_softmax(-1)
    expected = -float(log_probability_TV[0, 1] + log_probability_TV[1, 2] + log_probability_TV[2, 3])
    assert loss(logits_BTV, [1, 2, 3], 3) == pytest.approx(expected, rel=1e-6)


def test_a_repeated_label_needs_a_blank_between() -> None:
    logits_BTV = logits(3)
    log_probability_TV = logits_BTV[0].log_softmax(-1)
    expected = -float(log_probability_TV[0, 1] + log_probability_TV[1, 0] + log_probability_TV[2, 1])
    assert loss(logits_BTV, [1, 1], 3) == pytest.approx(expected, rel=1e-6)
    assert math.isinf(loss(logits_BTV, [1, 1], 2))


def test_no_label_at_all_is_all_blank() -> None:
    logits_BTV = logits(5)
    assert loss(logits_BTV, [], 5) == pytest.approx(-float(logits_BTV[0].log_softmax(-1)[:, 0].sum()), rel=1e-6)


@given(labels=st.lists(st.integers(1, 2), min_size=0, max_size=3), frames=st.integers(1, 6), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_the_loss_is_the_sum_over_all_alignments(labels: list[int], frames: int, seed: int) -> None:
    logits_BTV = logits(frames, vocabulary=3, seed=seed)
    if frames < len(labels) + sum(one == other for one, other in pairwise(labels)):
        assert math.isinf(loss(logits_BTV, labels, frames))
    else:
        assert loss(logits_BTV, labels, frames) == pytest.approx(by_enumeration(logits_BTV, labels, frames), rel=1e-5)


def test_frames_behind_the_end_of_an_utterance_count_for_nothing() -> None:
    logits_BTV = logits(6)
    changed = logits_BTV.clone()
    changed[:, 4:] = 100.0
    assert loss(logits_BTV, [1, 2], 4) == loss(changed, [1, 2], 4) == loss(logits_BTV[:, :4], [1, 2], 4)


def test_the_loss_of_half_precision_logits_is_computed_in_float32_and_long_sums_stay_finite() -> None:
    frames = 30_000  # ten minutes
    logits_BTV = (10 * logits(frames)).to(torch.bfloat16).requires_grad_()
    loss_B = ctc.losses(logits_BTV, batch([[1, 2, 3] * 100], [frames]), blank=0)
    assert loss_B.dtype == torch.float32
    assert math.isfinite(float(loss_B))
    loss_B.sum().backward()
    assert logits_BTV.grad is not None
    assert logits_BTV.grad.isfinite().all()


def test_an_infinite_loss_becomes_nothing_when_asked() -> None:
    logits_BTV = logits(2).requires_grad_()
    loss_B = ctc.losses(logits_BTV, batch([[1, 1]], [2]), blank=0, zero_infinity=True)
    loss_B.sum().backward()
    assert float(loss_B) == 0
    assert logits_BTV.grad is not None
    assert not logits_BTV.grad.any()


@pytest.mark.parametrize("mask", [True, False])
def test_an_utterance_is_normalised_as_it_is_alone_however_much_it_is_padded(mask: bool) -> None:
    draw = np.random.default_rng(2)
    samples = [draw.normal(300, 4000, seconds * 16_000).astype(np.int16) for seconds in (1, 10)]
    features = Wav2Vec2FeatureExtractor(return_attention_mask=mask, do_normalize=True)
    given = ctc.assemble([0, 1], samples, [[1], [1]], [49, 499], features)
    padded_BS = given.inputs["input_values"]
    assert ("attention_mask" in given.inputs) == mask
    for row, one in zip(padded_BS, samples):
        alone = features(one.astype(np.float32) / 32_768, sampling_rate=16_000, return_tensors="pt")["input_values"][0]
        assert torch.equal(row[: len(one)], alone)
        assert not row[len(one) :].any()
        assert float(row[: len(one)].std()) == pytest.approx(1, abs=1e-3)
