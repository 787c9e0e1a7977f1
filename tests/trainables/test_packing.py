from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables import packing

lengths = st.lists(st.floats(min_value=0.05, max_value=40.0), min_size=1, max_size=40)


@given(lengths, st.floats(min_value=0.5, max_value=90.0), st.integers(min_value=1, max_value=40))
@settings(deadline=None)
def test_every_utterance_is_packed_once_within_both_bounds(seconds, budget, bound) -> None:
    parts = packing.pack(seconds, budget_seconds=budget, max_utterances=bound)
    assert sorted(place for part in parts for place in part) == list(range(len(seconds)))
    for part in parts:
        assert len(part) <= bound
        assert len(part) == 1 or packing.padded_seconds(part, seconds) <= budget * (1 + 1e-9)


@given(lengths, st.integers(min_value=1, max_value=5))
@settings(deadline=None)
def test_workers_share_every_utterance_once(seconds, workers) -> None:
    shares = packing.share(packing.pack(seconds, budget_seconds=20, max_utterances=8), seconds, workers)
    assert len(shares) == workers
    assert sorted(place for share in shares for part in share for place in part) == list(range(len(seconds)))
    assert all(share for share in shares) or len(seconds) < workers


def test_packing_is_the_cheapest_of_all_cuts() -> None:
    seconds = [3.0, 0.5, 0.6, 2.8, 0.4, 1.0]
    order = sorted(seconds, reverse=True)

    def cost(cuts: list[int]) -> float:
        bounds = [0, *cuts, len(order)]
        return sum((stop - start) * order[start] + 1.0 for start, stop in itertools.pairwise(bounds))

    cheapest = min(cost([place for place in range(1, 6) if mask >> place & 1]) for mask in range(0, 64, 2))
    parts = packing.pack(seconds, budget_seconds=60, max_utterances=6, overhead_seconds=1.0)
    assert sum(packing.padded_seconds(part, seconds) + 1.0 for part in parts) == pytest.approx(cheapest)


def test_words_and_sentences_in_one_update_are_padded_by_less_than_15_per_cent() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        seconds = [*rng.uniform(0.3, 0.8, 26), *rng.uniform(2.5, 6.0, 6)]
        parts = packing.pack(seconds, budget_seconds=60, max_utterances=32)
        assert packing.padding_fraction(parts, seconds) < 0.15


def test_seed_and_epoch_alone_decide_which_utterances_form_an_update() -> None:
    first = packing.updates(100, 8, seed=1, epoch=0)
    assert first == packing.updates(100, 8, seed=1, epoch=0)
    assert first != packing.updates(100, 8, seed=1, epoch=1)
    assert first != packing.updates(100, 8, seed=2, epoch=0)
    assert sorted(place for update in first for place in update) == list(range(100))
    assert [len(update) for update in first] == [8] * 12 + [4]
