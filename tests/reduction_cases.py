"""What the tests of reductions share: an update of four utterances in two groups, and a spelling of every reduction."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from trainables.reductions import LENGTH_ONLY, Update, parse

LOSSES = np.array([3.0, 40.0, 12.0, 7.5])
GROUPS, TRAINING_COUNTS = ("sentence", "word"), np.array([30, 10])
UPDATE = Update(
    label_count_N=np.array([1, 20, 5, 3]),
    frame_count_N=np.array([20, 180, 60, 30]),
    group_N=np.array([1, 0, 0, 1]),
    groups=GROUPS,
    training_count_G=TRAINING_COUNTS,
    chunk_N=np.array([0, 0, 0, 1]),
)
WEIGHTED = "dataset_weighted(word=1.3, sentence=0.7)"
SPELLINGS = (
    *LENGTH_ONLY, "power(alpha=-1.5)", "power(alpha=0.12345678901234567)", "group_balanced", "group_temperature",
    "group_temperature(temperature=inf)", WEIGHTED, "capped(limit=3)", "focal", "focal(gamma=0.5)", "group_dro",
    "group_dro(eta=1e-05)", "ctc_dro", "ctc_dro(eta=0.001, alpha=1, batch_frames=500)", "gradient_balanced",
    "gradient_balanced(decay=0.9)", "stock_sum", "stock_mean",
)  # fmt: skip


def weigh(text: str, update: Update = UPDATE) -> tuple[np.ndarray, float]:
    reduction = parse(text)
    counts_G = TRAINING_COUNTS if update.groups else np.array([])
    return reduction(update, reduction.initial_state(update.groups, counts_G))


def value(text: str, losses: np.ndarray = LOSSES, update: Update = UPDATE) -> float:
    weight_N, normaliser = weigh(text, update)
    factor_N = parse(text).rescale(losses, update.label_count_N)
    return float((weight_N * factor_N * losses).sum() / normaliser)


def taken(update: Update, places: np.ndarray) -> Update:
    assert update.group_N is not None
    assert update.chunk_N is not None
    return Update(
        label_count_N=update.label_count_N[places],
        frame_count_N=update.frame_count_N[places],
        group_N=update.group_N[places],
        groups=update.groups,
        training_count_G=update.training_count_G,
        chunk_N=update.chunk_N[places],
    )


def ctc(reduction: str, places: list[int]) -> torch.Tensor:
    """Losses of PyTorch for some of four utterances of 1, 20, 5 and 3 labels."""
    generator = torch.Generator().manual_seed(0)
    log_probabilities_TBV = torch.randn(60, 4, 12, generator=generator).log_softmax(-1)
    targets = torch.randint(1, 12, (4, 20), generator=generator)
    frames, labels = torch.tensor([60, 55, 50, 60]), torch.tensor([1, 20, 5, 3])
    arguments = (log_probabilities_TBV[:, places], targets[places], frames[places], labels[places])
    return torch.nn.functional.ctc_loss(*arguments, reduction=reduction)


update_rows = st.lists(
    st.tuples(st.integers(0, 80), st.integers(0, 400), st.integers(0, 1), st.integers(0, 3), st.floats(0, 1e4)),
    min_size=1,
    max_size=24,
)


def drawn(rows: list[tuple[int, int, int, int, float]]) -> tuple[Update, np.ndarray]:
    labels, frames, groups, chunks, losses = (np.array(column) for column in zip(*rows))
    return Update(labels, frames, groups, GROUPS, TRAINING_COUNTS, chunks), losses
