from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables import reductions
from trainables.errors import DataError
from trainables.reductions import REDUCTIONS, Update, parse

LOSSES = np.array([3.0, 40.0, 12.0, 7.5])
UPDATE = Update(label_count_N=np.array([1, 20, 5, 3]), frame_count_N=np.array([20, 180, 60, 30]))


def value(name: str, losses: np.ndarray = LOSSES, update: Update = UPDATE) -> float:
    weight_N, normaliser = parse(name)(update)
    return float((weight_N * losses).sum() / normaliser)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sum", 62.5),
        ("utterance_mean", 62.5 / 4),
        ("token_mean", 62.5 / 29),
        ("mean", (3.0 / 1 + 40.0 / 20 + 12.0 / 5 + 7.5 / 3) / 4),
    ],
)
def test_the_value_is_the_closed_form(name: str, expected: float) -> None:
    assert value(name) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sum_and_mean_are_those_of_torch(reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probabilities_TBV = torch.randn(60, 4, 12, generator=generator).log_softmax(-1)
    targets = torch.randint(1, 12, (4, 20), generator=generator)
    frames, labels = torch.tensor([60, 55, 50, 60]), torch.tensor([1, 20, 5, 3])
    arguments = (log_probabilities_TBV, targets, frames, labels)
    loss_B = torch.nn.functional.ctc_loss(*arguments, reduction="none").numpy()
    expected = torch.nn.functional.ctc_loss(*arguments, reduction=reduction)
    update = Update(label_count_N=labels.numpy(), frame_count_N=frames.numpy())
    assert value(reduction, loss_B, update) == pytest.approx(float(expected), rel=1e-6)


def test_an_empty_transcript_does_not_divide_by_zero() -> None:
    update = Update(label_count_N=np.array([0, 2]), frame_count_N=np.array([10, 10]))
    assert value("mean", np.array([4.0, 6.0]), update) == pytest.approx((4.0 + 3.0) / 2)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_treats_utterances_alike_whatever_their_order(name: str) -> None:
    order = np.array([2, 0, 3, 1])
    shuffled = Update(UPDATE.label_count_N[order], UPDATE.frame_count_N[order])
    assert value(name, LOSSES[order], shuffled) == pytest.approx(value(name), rel=1e-12)


@pytest.mark.parametrize("name", ["utterance_mean", "token_mean"])
def test_sum_and_its_means_point_the_same_way(name: str) -> None:
    weight_N, _ = parse(name)(UPDATE)
    assert np.ptp(weight_N / parse("sum")(UPDATE)[0]) == 0


@pytest.mark.parametrize("name", REDUCTIONS)
def test_the_spelling_of_a_reduction_reads_back(name: str) -> None:
    assert parse(str(parse(name))) == parse(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("meen", "did you mean 'mean'"),
        ("", "choose one of"),
        ("mean(alpha=1)", "mean takes no parameters"),
        ("mean(", "choose one of"),
    ],
)
def test_a_wrong_spelling_is_told(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        parse(text)


def test_every_reduction_says_what_it_does_and_where_it_is_from() -> None:
    for function in reductions._FAMILY:
        assert "Reference:" in (function.__doc__ or ""), function.__name__
