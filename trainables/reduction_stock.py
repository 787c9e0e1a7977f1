"""Replication only: what the stock `Trainer` minimises with `Wav2Vec2ForCTC`, errors included. Not for new work.

These depend on micro-batch, accumulation and workers, which is what they are here to show.

N utterances of an update, C stock micro-batches.
"""

from __future__ import annotations

import numpy as np

from trainables.reduction_types import Update, Weighting


def stock_sum(update: Update) -> Weighting:
    """Replication only: `sum` as transformers 5.x minimises it: w = 1, Z = 1. The same as `sum`.

    `Trainer` adds micro-batches and workers without dividing, which for a sum is right, by luck.

    Reference: transformers 5.23, `Trainer.training_step` and `Wav2Vec2ForCTC`, default settings.
    """
    return np.ones(len(update)), 1.0


def stock_mean(update: Update) -> Weighting:
    """Replication only: `mean` as transformers 5.x minimises it: w = 1 / (U size of the micro-batch), Z = 1.

    A sum of means. `Trainer` believes that the model divides by the count of labels it is handed, and does not divide
    itself, neither by the accumulation steps nor by the workers; the model ignores the count. So **the loss and its
    gradient grow with accumulation steps x workers**, and utterances of a last, smaller micro-batch gain. Its padded
    frames, which it counts as audio where a model takes no attention mask, are not copied. Use `mean` for anything new.

    Reference: transformers 5.23, `Trainer.training_step` and `Wav2Vec2ForCTC`, default settings.
    """
    if update.chunk_N is None:
        raise ValueError("stock_mean needs the stock micro-batch of each utterance; give the update its chunk_N")
    _, chunk_N, size_C = np.unique(update.chunk_N, return_inverse=True, return_counts=True)
    return 1.0 / (np.maximum(update.label_count_N, 1) * size_C[chunk_N]), 1.0


STOCK = (stock_sum, stock_mean)
