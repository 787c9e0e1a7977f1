"""Memory that is too small for a micro-batch: the same update in smaller ones. Changes no gradient, only the time it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from trainables.corpora.audio import SAMPLE_RATE_HZ
from trainables.ctc import MicroBatch, halves
from trainables.failures import is_out_of_memory
from trainables.totals import Totals

T = TypeVar("T")


class Room:
    """Remembers, in the totals of the trial and so in its checkpoints, how large a micro-batch the memory bears."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals

    def cut(self, batches: Sequence[MicroBatch]) -> list[MicroBatch]:
        """Halve micro-batches until each fits, or is a single utterance."""
        limit = self.totals.limit_seconds
        if limit is None:
            return list(batches)
        fitting, waiting = [], list(reversed(batches))
        while waiting:
            batch = waiting.pop()
            if len(batch.position_B) > 1 and _padded_seconds(batch) > limit:
                waiting += reversed(halves(batch))
            else:
                fitting.append(batch)
        return fitting

    def run(
        self, batches: Sequence[MicroBatch], work: Callable[[Sequence[MicroBatch]], T], undo: Callable[[], None]
    ) -> T:
        """Do work on the micro-batches of an update; where memory runs out, all of it again on halves.

        Args:
            batches: this worker's part of the update.
            work: is given the micro-batches.
            undo: forgets what broken work left behind.

        Raises:
            Exception: what `work` raised, when it was not memory, or no micro-batch can be halved.
        """
        while True:
            before, fitting = _random_state(), self.cut(batches)
            try:
                return work(fitting)
            except Exception as error:
                sizes = [_padded_seconds(batch) for batch in fitting if len(batch.position_B) > 1]
                if not sizes or not is_out_of_memory(error):
                    raise
            # Outside of the handler: there the traceback keeps the tensors of the broken update alive.
            self.totals.out_of_memory += 1
            self.totals.limit_seconds = max(sizes) / 2
            undo()
            _go_back(before)


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the state of the random numbers that dropout draws from."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _go_back(before: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    """Draw the same random numbers again, and give the memory of the broken update back."""
    torch.set_rng_state(before[0])
    if before[1]:
        torch.cuda.set_rng_state_all(before[1])
        torch.cuda.empty_cache()


def _padded_seconds(batch: MicroBatch) -> float:
    return batch.inputs["input_values"].numel() / SAMPLE_RATE_HZ
