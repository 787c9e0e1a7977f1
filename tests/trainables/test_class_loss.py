"""The loss of the classifier: its weights, its schedule, and what is left out of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainables.class_loss import ClassLoss
from trainables.errors import DataError

CODES = [0, 0, 0, 1, -1, 2, 2]


def class_loss(**settings) -> ClassLoss:
    return ClassLoss.of(settings, ("a", "b", "c"), CODES)


def test_every_class_has_the_same_weight_over_the_training_set() -> None:
    weights = np.array(class_loss().weight_C)
    np.testing.assert_allclose(weights, [6 / (3 * 3), 6 / (3 * 1), 6 / (3 * 2)])
    np.testing.assert_allclose(weights * [3, 1, 2], 2.0)


def test_the_loss_is_that_of_the_formula_and_utterances_without_a_class_do_not_count() -> None:
    torch.manual_seed(0)
    logits_BC, code_B = torch.randn(5, 3), np.array([2, -1, 0, 1, -1])
    loss, right = class_loss().share(logits_BC, code_B, 3)
    weights, by_hand = class_loss().weight_C, 0.0
    for row in (0, 2, 3):
        probabilities = torch.exp(logits_BC[row]) / torch.exp(logits_BC[row]).sum()
        by_hand -= weights[code_B[row]] * math.log(float(probabilities[code_B[row]])) / 3
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)
    assert right == sum(int(logits_BC[row].argmax()) == code_B[row] for row in (0, 2, 3))


def test_parts_of_an_update_add_up_to_the_whole_of_it() -> None:
    logits_BC, code_B = torch.randn(6, 3), np.array([2, -1, 0, 1, 1, 0])
    whole, right = class_loss().share(logits_BC, code_B, 5)
    parts = [class_loss().share(logits_BC[a:b], code_B[a:b], 5) for a, b in ((0, 2), (2, 3), (3, 6))]
    assert float(sum(loss for loss, _ in parts)) == pytest.approx(float(whole), rel=1e-6)
    assert sum(count for _, count in parts) == right


def test_an_update_without_any_class_adds_nothing_and_still_has_a_gradient() -> None:
    logits_BC = torch.randn(2, 3, requires_grad=True)
    loss, right = class_loss().share(logits_BC, np.array([-1, -1]), 0)
    loss.backward()
    assert (float(loss), right, float(logits_BC.grad.abs().sum())) == (0.0, 0, 0.0)


def test_the_strength_of_the_reversal_follows_its_schedule() -> None:
    assert class_loss(gradient_reversal_lambda=3.0).reversal(0.5) is None
    constant = class_loss(gradient_reversal=True, gradient_reversal_lambda=0.4)
    assert [constant.reversal(p) for p in (0.0, 1.0)] == [0.4, 0.4]
    assert class_loss(gradient_reversal=True).reversal(0.0) == 1.0
    dann = class_loss(gradient_reversal=True, gradient_reversal_lambda=2.0, gradient_reversal_schedule="dann")
    assert dann.reversal(0.0) == 0.0
    for progress in (0.1, 0.5, 1.0):
        assert dann.reversal(progress) == pytest.approx(2.0 * (2 / (1 + math.exp(-10 * progress)) - 1))
    assert dann.reversal(1.0) == pytest.approx(2.0, rel=1e-3)


def test_a_strength_of_zero_is_kept_and_is_not_the_default() -> None:
    assert class_loss(gradient_reversal=True, gradient_reversal_lambda=0.0).reversal(1.0) == 0.0


def test_the_two_losses_weigh_the_same_unless_said_otherwise() -> None:
    assert (class_loss().ctc_weight, class_loss().class_weight) == (0.5, 0.5)
    given = class_loss(task_weight=[0.8, 0.2])
    assert (given.ctc_weight, given.class_weight) == (0.8, 0.2)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(DataError, match="'linear': choose one of constant, dann"):
        class_loss(gradient_reversal=True, gradient_reversal_schedule="linear")
    with pytest.raises(DataError, match="the classes b have no training utterance"):
        ClassLoss.of({}, ("a", "b"), [0, 0, -1])
