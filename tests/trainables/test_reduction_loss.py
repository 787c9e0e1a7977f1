"""Factors of the loss: their limits, and that no gradient flows through them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.reductions import parse

from reduction_cases import LOSSES, SPELLINGS, UPDATE, drawn, update_rows, value  # isort: skip


@given(rows=update_rows)
def test_a_cap_above_every_loss_and_a_focus_of_nought_are_utterance_mean(rows) -> None:
    update, losses = drawn(rows)
    expected = pytest.approx(value("utterance_mean", losses, update), rel=1e-12)
    assert value("capped(limit=1e9)", losses, update) == expected
    assert value("focal(gamma=0)", losses, update) == expected


@given(rows=update_rows, limit=st.floats(1e-3, 1e3), gamma=st.floats(0, 20))
def test_a_factor_of_the_loss_lies_between_nought_and_one_and_the_cap_holds(rows, limit, gamma) -> None:
    update, losses = drawn(rows)
    factor_N = parse(f"capped(limit={limit})").rescale(losses, update.label_count_N)
    assert np.all((factor_N > 0) & (factor_N <= 1))
    assert np.all(factor_N * losses <= limit * np.maximum(update.label_count_N, 1) * (1 + 1e-12))
    factor_N = parse(f"focal(gamma={gamma})").rescale(losses, update.label_count_N)
    assert np.all((factor_N >= 0) & (factor_N <= 1))


def test_an_utterance_above_the_cap_still_pulls() -> None:
    loss = torch.tensor([50.0], requires_grad=True)
    factor = torch.from_numpy(parse("capped(limit=2)").rescale(loss.detach().numpy(), np.array([5])))
    (factor * loss).sum().backward()
    assert loss.grad is not None
    assert float(loss.grad) == pytest.approx(0.2)
    minimum = torch.tensor([50.0], requires_grad=True)
    torch.minimum(minimum, torch.tensor(10.0)).sum().backward()
    assert minimum.grad is not None
    assert float(minimum.grad) == 0


@pytest.mark.parametrize("text", SPELLINGS)
def test_only_those_that_say_so_scale_by_the_loss(text: str) -> None:
    reduction = parse(text)
    factor_N = reduction.rescale(LOSSES.astype(np.float32), UPDATE.label_count_N)
    assert factor_N.dtype == np.float64
    assert reduction.depends_on_loss == (reduction.name in {"capped", "focal"})
    assert reduction.depends_on_loss or np.all(factor_N == 1)
