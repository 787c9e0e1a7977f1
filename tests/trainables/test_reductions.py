"""Each reduction says what its formula says, however the update is cut. N utterances of an update, G groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables import reduction_groups, reduction_loss, reduction_state, reduction_stock
from trainables.reductions import LENGTH_ONLY, REDUCTIONS, Observed, Update, parse

from reduction_cases import (  # isort: skip
    GROUPS, LOSSES, SPELLINGS, TRAINING_COUNTS, UPDATE, WEIGHTED, ctc, drawn, taken, update_rows, value, weigh,
)  # fmt: skip


def training_set(counts: dict[str, int], labels: int = 1) -> Update:
    """A whole training set as one update."""
    group_N = np.repeat(np.arange(len(counts)), list(counts.values()))
    count_N = np.full(len(group_N), labels)
    return Update(count_N, 10 * count_N, group_N, tuple(counts), np.array(list(counts.values())))


def mean_weight_of_each_group(text: str, counts: dict[str, int]) -> np.ndarray:
    """Total weight of each group over Z, over the training set."""
    update = training_set(counts)
    weight_N, normaliser = parse(text)(update)
    return update.group_sum(weight_N) / normaliser


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum", 62.5),
        ("mean", (3.0 / 1 + 40.0 / 20 + 12.0 / 5 + 7.5 / 3) / 4),
        ("utterance_mean", 62.5 / 4),
        ("token_mean", 62.5 / 29),
        ("frame_mean", 62.5 / 290),
        ("utterance_frame_mean", (3 / 20 + 40 / 180 + 12 / 60 + 7.5 / 30) / 4),
        ("power(alpha=0.5)", (3 + 40 / math.sqrt(20) + 12 / math.sqrt(5) + 7.5 / math.sqrt(3)) / 4),
        ("group_balanced", (3 * 2 + 40 * 2 / 3 + 12 * 2 / 3 + 7.5 * 2) / 4),
        (WEIGHTED, (1.3 * 3 / 1 + 0.7 * 40 / 20 + 0.7 * 12 / 5 + 1.3 * 7.5 / 3) / 4),
        ("capped(limit=2)", (2 + 40 + 10 + 6) / 4),
        ("focal(gamma=1)", sum((1 - math.exp(-x / u)) * x for x, u in ((3, 1), (40, 20), (12, 5), (7.5, 3))) / 4),
        ("group_dro", (0.5 * (40 + 12) / 2 + 0.5 * (3 + 7.5) / 2)),
        ("ctc_dro", 62.5 / 4),
        ("gradient_balanced", 62.5 / 4),
        ("stock_sum", 62.5),
        ("stock_mean", (3.0 / 1 + 40.0 / 20 + 12.0 / 5) / 3 + 7.5 / 3),
    ],
)
def test_the_value_is_the_closed_form(text: str, expected: float) -> None:
    assert value(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sum_and_mean_are_those_of_torch(reduction: str) -> None:
    everything = [0, 1, 2, 3]
    expected = float(ctc(reduction, everything))
    assert value(reduction, ctc("none", everything).numpy()) == pytest.approx(expected, rel=1e-6)


@given(rows=update_rows)
def test_power_joins_utterance_mean_and_mean(rows) -> None:
    update, losses = drawn(rows)
    assert value("power(alpha=0)", losses, update) == pytest.approx(value("utterance_mean", losses, update), rel=1e-12)
    assert value("power(alpha=1)", losses, update) == pytest.approx(value("mean", losses, update), rel=1e-12)


@given(text=st.sampled_from(SPELLINGS), rows=update_rows, order=st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_an_utterance_keeps_its_weight_whatever_the_order_of_the_update(text: str, rows, order) -> None:
    update, _ = drawn(rows)
    places = np.array(order.sample(range(len(update)), len(update)))
    weight_N, normaliser = weigh(text, update)
    shuffled_N, shuffled = weigh(text, taken(update, places))
    assert shuffled_N == pytest.approx(weight_N[places], rel=1e-12)
    assert shuffled == pytest.approx(normaliser, rel=1e-12)


@given(
    text=st.sampled_from([text for text in SPELLINGS if text != "stock_mean"]),
    rows=update_rows,
    workers=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=200)
def test_shards_of_an_update_add_up_to_the_whole(text: str, rows, workers, order) -> None:
    update, losses = drawn(rows)
    weight_N, normaliser = weigh(text, update)
    owner_N = np.array([order.randrange(workers) for _ in losses])
    shards = [
        weight_N[owner_N == worker]
        * parse(text).rescale(losses[owner_N == worker], update.label_count_N[owner_N == worker])
        * losses[owner_N == worker]
        for worker in range(workers)
    ]
    together = sum(float(shard.sum()) for shard in shards) / normaliser
    assert together == pytest.approx(value(text, losses, update), rel=1e-9)


@pytest.mark.parametrize("text", [text for text in SPELLINGS if text != "stock_mean"])
def test_nothing_but_the_stock_mean_looks_at_the_micro_batches(text: str) -> None:
    other = Update(
        UPDATE.label_count_N, UPDATE.frame_count_N, UPDATE.group_N, UPDATE.groups, UPDATE.training_count_G,
        chunk_N=np.array([3, 1, 2, 0]),
    )  # fmt: skip
    assert value(text, update=other) == value(text)


@pytest.mark.parametrize("name", ["utterance_mean", "token_mean", "frame_mean", "stock_sum"])
def test_sum_and_its_means_point_the_same_way(name: str) -> None:
    assert np.ptp(weigh(name)[0] / weigh("sum")[0]) == 0


@pytest.mark.parametrize("text", LENGTH_ONLY)
def test_lengths_alone_are_enough_for_those_that_say_so(text: str) -> None:
    alone = Update(UPDATE.label_count_N, UPDATE.frame_count_N)
    reduction = parse(text)
    needs = (reduction.needs_groups, reduction.is_stateful, reduction.depends_on_loss, reduction.needs_chunks)
    assert not any(needs)
    weight_N, normaliser = reduction(alone)
    assert float((weight_N * LOSSES).sum() / normaliser) == value(text)


@pytest.mark.parametrize("text", SPELLINGS)
def test_an_empty_transcript_and_an_empty_recording_have_a_finite_weight(text: str) -> None:
    update = Update(np.array([0, 2]), np.array([0, 10]), np.array([0, 1]), GROUPS, TRAINING_COUNTS, np.array([0, 0]))
    assert math.isfinite(value(text, np.array([0.0, 6.0]), update))


def test_an_empty_transcript_counts_as_one_label() -> None:
    assert value("mean", np.array([4.0, 6.0]), Update(np.array([0, 2]), np.array([10, 10]))) == pytest.approx(
        (4.0 + 3.0) / 2
    )


group_counts = st.lists(st.integers(1, 60), min_size=1, max_size=5).map(
    lambda counts: {f"g{number}": count for number, count in enumerate(counts)}
)


@given(counts=group_counts)
def test_balanced_groups_have_equal_total_weight_and_the_mean_weight_is_one(counts) -> None:
    total_G = mean_weight_of_each_group("group_balanced", counts)
    assert total_G == pytest.approx(np.full(len(counts), 1 / len(counts)), rel=1e-9)


@given(counts=group_counts, temperature=st.floats(0.2, 1e6))
def test_a_temperature_gives_group_totals_in_proportion_to_the_power_of_their_share(counts, temperature) -> None:
    total_G = mean_weight_of_each_group(f"group_temperature(temperature={temperature})", counts)
    share_G = np.array(list(counts.values())) / sum(counts.values())
    expected_G = share_G ** (1 / temperature)
    assert total_G == pytest.approx(expected_G / expected_G.sum(), rel=1e-9)
    assert total_G.sum() == pytest.approx(1)


@given(counts=group_counts)
def test_temperature_one_is_utterance_mean_and_infinity_is_group_balanced(counts) -> None:
    update = training_set(counts)
    natural_N, _ = parse("group_temperature(temperature=1)")(update)
    uniform_N, _ = parse("group_temperature(temperature=inf)")(update)
    assert natural_N == pytest.approx(np.ones(len(update)), rel=1e-12)
    assert uniform_N == pytest.approx(parse("group_balanced")(update)[0], rel=1e-12)


def test_equal_dataset_weights_are_mean() -> None:
    assert value("dataset_weighted(word=1, sentence=1)") == pytest.approx(value("mean"), rel=1e-12)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_reduction_is_among_those_tried_here(name: str) -> None:
    assert name in {parse(text).name for text in SPELLINGS}


def test_what_an_update_does_not_say_is_asked_for() -> None:
    alone = Update(UPDATE.label_count_N, UPDATE.frame_count_N, groups=GROUPS)
    for text, missing in (("group_balanced", "group_N"), (WEIGHTED, "group_N"), ("stock_mean", "chunk_N")):
        with pytest.raises(ValueError, match=missing):
            parse(text)(alone)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frame_count_N": np.array([1])}, "frame_count_N has 1 entries for 4 utterances"),
        ({"group_N": np.array([0, 1, 2, 0])}, "group_N holds"),
        ({"training_count_G": np.array([30])}, "training_count_G"),
        ({"training_count_G": np.array([30, 0])}, "at least 1"),
    ],
)
def test_an_update_whose_fields_do_not_fit_each_other_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Update(**{**vars(UPDATE), **changed})


def test_every_reduction_says_what_it_does_and_where_it_is_from() -> None:
    for name, member in REDUCTIONS.items():
        assert "Reference:" in (member.__doc__ or ""), name
        assert "Replication only" in member.__doc__ or not name.startswith("stock_")


def test_the_files_of_the_kinds_hold_no_reduction_that_is_not_registered() -> None:
    kinds = (
        *reduction_groups.BY_GROUP, *reduction_loss.BY_LOSS, *reduction_stock.STOCK, *reduction_state.STATEFUL.values()
    )  # fmt: skip
    assert set(kinds) <= set(REDUCTIONS.values())


def test_what_an_update_showed_is_counted_by_group() -> None:
    observed = Observed.of(UPDATE, UPDATE.group_sum(LOSSES))
    assert observed.utterances_G.tolist() == [2, 2]
    assert observed.loss_sum_G.tolist() == [52.0, 10.5]
    assert observed.frame_sum_G.tolist() == [240, 50]
    assert observed.label_sum_G.tolist() == [25, 4]
