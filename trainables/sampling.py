"""Choose utterances that stand for a split: by their names alone, so that every trial chooses the same."""

from __future__ import annotations

import hashlib

import numpy as np

from trainables.dataset import Split
from trainables.errors import DataError


def sample(split: Split, count: int) -> tuple[int, ...]:
    """Choose at most `count` utterances, stratified by group.

    Each group has its part of the split, and at least one utterance where `count` allows it. A smaller sample is part of
    a larger one.

    Returns:
        positions, in order.

    Raises:
        DataError: count is below 1.
    """
    if count < 1:
        raise DataError(f"audit_utterances is {count!r}; give a whole number of at least 1, or set audit = False")
    return tuple(sorted(by_choice(split)[:count]))


def by_choice(split: Split) -> list[int]:
    """Return all positions in the order in which samples take them: the first n are the sample of n."""
    names, counts_G = split.columns["utt_id"], split.group_counts
    seen_G = np.zeros(len(split.groups), dtype=int)
    keys = []
    for position in sorted(range(len(split)), key=lambda one: _hash(names[one])):
        group = split.group_code[position]
        keys.append((seen_G[group] / counts_G[group], group, position))
        seen_G[group] += 1
    return [position for *_, position in sorted(keys)]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
