"""Cut an update into micro-batches: by length, so that little is padded. Changes no gradient, only the time it takes.

N utterances of an update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

OVERHEAD_SECONDS = 1.0
"""What one more micro-batch costs, in seconds of audio: launching a forward and backward on a CPU takes about as long
as this much audio (benchmarks/packing.py); any value gives the same gradients."""


def updates(rows: int, update_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Deal the training utterances of one epoch into updates; seed and epoch alone decide.

    Args:
        rows: number of training utterances.
        update_size: utterances per update; the last update of an epoch may be smaller.
        seed: of the trial.
        epoch: from 0.

    Returns:
        positions of utterances, one list per update.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows).tolist()
    return [order[start : start + update_size] for start in range(0, rows, update_size)]


def pack(
    seconds_N: Sequence[float],
    *,
    budget_seconds: float,
    max_utterances: int,
    overhead_seconds: float = OVERHEAD_SECONDS,
) -> list[list[int]]:
    """Cut an update into micro-batches with the least padded audio and the fewest micro-batches, weighed exactly.

    The utterances are sorted by length and the cuts found by dynamic programming over the sorted order, where a
    micro-batch costs its size times its longest utterance plus a fixed overhead.

    Args:
        seconds_N: length of each utterance of the update, in seconds.
        budget_seconds: padded audio of one micro-batch; a longer utterance is a micro-batch of its own.
        max_utterances: upper bound of a micro-batch.
        overhead_seconds: cost of one more micro-batch, in seconds of padded audio.

    Returns:
        positions in the update, one list per micro-batch, each utterance exactly once.
    """
    order_N = np.argsort(-np.asarray(seconds_N, dtype=float), kind="stable")
    longest_N = np.asarray(seconds_N, dtype=float)[order_N]
    count = len(order_N)
    cost_from = np.zeros(count + 1)
    cut_after = np.zeros(count, dtype=int)
    for start in range(count - 1, -1, -1):
        fits = max(1, min(max_utterances, int(budget_seconds / max(longest_N[start], 1e-9))))
        stops = np.arange(start + 1, min(count, start + fits) + 1)
        costs = (stops - start) * longest_N[start] + overhead_seconds + cost_from[stops]
        cut_after[start] = stops[np.argmin(costs)]
        cost_from[start] = costs.min()
    return [order_N[start:stop].tolist() for start, stop in _chain(cut_after)]


def pack_equal(seconds_N: Sequence[float], *, budget_seconds: float, max_utterances: int) -> list[list[int]]:
    """Cut utterances into micro-batches of one length each: no padding at all.

    Args:
        seconds_N: length of each utterance, in seconds.
        budget_seconds: audio of one micro-batch; a longer utterance is a micro-batch of its own.
        max_utterances: upper bound of a micro-batch.

    Returns:
        positions, one list per micro-batch, each utterance exactly once.
    """
    by_length: dict[float, list[int]] = {}
    for position, seconds in enumerate(seconds_N):
        by_length.setdefault(seconds, []).append(position)
    parts = []
    for seconds, positions in by_length.items():
        size = max(1, min(max_utterances, int(budget_seconds / max(seconds, 1e-9))))
        parts += [positions[start : start + size] for start in range(0, len(positions), size)]
    return parts


def share(micro_batches: Sequence[Sequence[int]], seconds_N: Sequence[float], workers: int) -> list[list[list[int]]]:
    """Share the micro-batches of an update out to workers, heaviest first to the least loaded.

    While there are fewer micro-batches than workers, the heaviest that can be halved is halved.

    Returns:
        for each worker its micro-batches; a worker's share may be empty.
    """
    parts = [list(part) for part in micro_batches]
    while len(parts) < workers and any(len(part) > 1 for part in parts):
        heaviest = max((part for part in parts if len(part) > 1), key=lambda part: padded_seconds(part, seconds_N))
        parts.remove(heaviest)
        middle = len(heaviest) // 2
        parts += [heaviest[:middle], heaviest[middle:]]
    shares: list[list[list[int]]] = [[] for _ in range(workers)]
    loads = [0.0] * workers
    for part in sorted(parts, key=lambda part: -padded_seconds(part, seconds_N)):
        worker = loads.index(min(loads))
        shares[worker].append(part)
        loads[worker] += padded_seconds(part, seconds_N)
    return shares


def padded_seconds(micro_batch: Sequence[int], seconds_N: Sequence[float]) -> float:
    """Audio that a micro-batch makes the model see, padding included, in seconds."""
    return len(micro_batch) * max(seconds_N[position] for position in micro_batch)


def padding_fraction(micro_batches: Sequence[Sequence[int]], seconds_N: Sequence[float]) -> float:
    """Part of the audio of an update that is padding, in [0, 1)."""
    padded = sum(padded_seconds(part, seconds_N) for part in micro_batches)
    return 1.0 - sum(seconds_N[position] for part in micro_batches for position in part) / padded


def _chain(cut_after: np.ndarray) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(cut_after):
        yield start, int(cut_after[start])
        start = int(cut_after[start])
