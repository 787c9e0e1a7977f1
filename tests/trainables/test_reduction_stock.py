"""The stock reductions are what the stock Trainer minimises, errors included."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.reductions import Update, parse

from reduction_cases import UPDATE, ctc  # isort: skip


@pytest.mark.parametrize("chunks", [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0, 1, 2], [3]], [[0], [1], [2], [3]]])
def test_stock_mean_adds_the_means_of_torch_over_the_stock_micro_batches(chunks: list[list[int]]) -> None:
    chunk_N = np.concatenate([[number] * len(chunk) for number, chunk in enumerate(chunks)])
    update = Update(UPDATE.label_count_N, UPDATE.frame_count_N, chunk_N=chunk_N)
    expected = sum(float(ctc("mean", chunk)) for chunk in chunks)
    weight_N, normaliser = parse("stock_mean")(update)
    losses = ctc("none", [0, 1, 2, 3]).numpy()
    assert float((weight_N * losses).sum() / normaliser) == pytest.approx(expected, rel=1e-6)


def test_stock_mean_of_one_micro_batch_is_mean_and_of_eight_equal_ones_eight_times_it() -> None:
    labels, frames = list(range(1, 17)), list(range(20, 36))
    for chunks, factor in ((1, 1), (2, 2), (8, 8)):
        update = Update(np.array(labels), np.array(frames), chunk_N=np.arange(16) // (16 // chunks))
        weight_N, normaliser = parse("stock_mean")(update)
        proper_N, proper = parse("mean")(update)
        assert weight_N / normaliser == pytest.approx(factor * proper_N / proper, rel=1e-12)
