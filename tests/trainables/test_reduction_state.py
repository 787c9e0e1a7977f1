"""What reductions remember follows the formula of their paper, and survives a checkpoint. G groups."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.reduction_state import MINIMUM_SHARE
from trainables.reductions import REDUCTIONS, Observed, Reduction, State, Update, parse

from reduction_cases import GROUPS, SPELLINGS, TRAINING_COUNTS, UPDATE  # isort: skip

STATEFUL = [text for text in SPELLINGS if parse(text).is_stateful]


def observed(utterances=(1, 1), losses=(1.0, 1.0), frames=(10, 10), norms=(1.0, 1.0)) -> Observed:
    return Observed(
        utterances_G=np.array(utterances),
        loss_sum_G=np.array(losses, dtype=float),
        frame_sum_G=np.array(frames),
        label_sum_G=np.array(utterances),
        gradient_norm_G=np.array(norms, dtype=float),
    )


def start(text: str) -> tuple[Reduction, State]:
    reduction = parse(text)
    return reduction, reduction.initial_state(GROUPS, TRAINING_COUNTS)


def test_group_dro_steps_as_worked_by_hand() -> None:
    reduction, state = start("group_dro(eta=0.1)")
    assert state.array("q").tolist() == [0.5, 0.5]
    state = reduction.next_state(state, observed(utterances=(2, 1), losses=(20, 30)))  # mean losses 10 and 30
    assert state.array("q") == pytest.approx([1 / (1 + math.e**2), math.e**2 / (1 + math.e**2)], rel=1e-8)
    weight_N, normaliser = reduction(UPDATE, state)
    low, high = state.array("q")
    assert weight_N == pytest.approx([high / 2, low / 2, low / 2, high / 2])  # two utterances of each group
    assert normaliser == 1.0


def test_group_dro_is_the_weighted_sum_of_the_mean_losses_of_groups() -> None:
    update = Update(np.ones(5), np.ones(5), np.array([0, 0, 0, 0, 1]), GROUPS, TRAINING_COUNTS)
    losses = np.array([4.0, 8.0, 6.0, 2.0, 30.0])
    weight_N, normaliser = parse("group_dro")(update, State(GROUPS, {"q": (0.2, 0.8)}))
    assert float((weight_N * losses).sum() / normaliser) == pytest.approx(0.2 * 5.0 + 0.8 * 30.0)


def test_a_group_that_the_update_lacks_keeps_its_share_and_adds_nothing() -> None:
    reduction = parse("group_dro(eta=0.1)")
    groups = ("a", "b", "c")
    state = State(groups, {"q": (0.25, 0.25, 0.5)})
    after = reduction.next_state(state, observed((1, 2, 0), (30, 20, 0), (9, 9, 0)))
    share = math.e**2 / (1 + math.e**2)  # between a and b, of mean losses 30 and 10
    assert after.array("q") == pytest.approx([0.5 * share, 0.5 * (1 - share), 0.5], rel=1e-8)
    alone = Update(np.ones(2), np.ones(2), np.array([0, 0]), groups, np.array([1, 1, 1]))
    assert reduction(alone, state)[0] == pytest.approx([0.125, 0.125])


def test_ctc_dro_steps_as_worked_by_hand() -> None:
    reduction, state = start("ctc_dro(eta=0.01, alpha=0.5, batch_frames=100)")
    state = reduction.next_state(state, observed(losses=(30, 10), frames=(150, 50)))
    assert state.array("q").tolist() == [0.5, 0.5]  # the second group has shown too little audio
    assert state.array("loss_sum").tolist() == [30, 10]
    state = reduction.next_state(state, observed((0, 1), losses=(0, 30), frames=(0, 50)))
    # 30 nats in 150 frames are 20 in 100; 40 in 100 are 40. Exponents 0.01 L / (0.5 + 0.5).
    first = math.exp(0.2) / (math.exp(0.2) + math.exp(0.4))
    assert state.array("q") == pytest.approx([first, 1 - first], rel=1e-8)
    assert state.array("loss_sum").tolist() == state.array("frame_sum").tolist() == [0, 0]
    weight_N, normaliser = reduction(UPDATE, state)
    assert weight_N == pytest.approx(2 * np.array([1 - first, first, first, 1 - first]), rel=1e-8)
    assert normaliser == len(UPDATE)


def test_ctc_dro_is_the_published_step_for_batches_of_one_group_and_equal_length() -> None:
    """Written down from the published algorithm: wait for every group, average its batches, multiply, divide."""
    eta, alpha, frames = 0.002, 0.1, 500
    reduction, state = start(f"ctc_dro(eta={eta}, alpha={alpha}, batch_frames={frames})")
    q, waiting = [0.5, 0.5], ([], [])
    rng = np.random.default_rng(3)
    for group in rng.integers(0, 2, size=200):
        loss = float(rng.gamma(3.0, 100.0 * (1 + group)))
        waiting[group].append(loss)
        if all(waiting):
            q = [share * math.exp(eta * np.mean(losses) / (share + alpha)) + 1e-10 for share, losses in zip(q, waiting)]
            q, waiting = [share / sum(q) for share in q], ([], [])
        present = np.arange(2) == group
        state = reduction.next_state(state, observed(present * 7, present * loss, present * frames))
        assert state.array("q") == pytest.approx(q, rel=1e-6)


def test_ctc_dro_does_not_give_all_to_a_group_whose_loss_stays_high() -> None:
    constant = observed(losses=(40, 20), frames=(100, 100))
    plain, smooth = start("group_dro(eta=0.01)"), start("ctc_dro(eta=0.01, alpha=0.5, batch_frames=100)")
    shares = []
    for reduction, state in (plain, smooth):
        for _ in range(2000):
            state = reduction.next_state(state, constant)
        shares.append(state.array("q")[0])
    assert shares[0] == pytest.approx(1, abs=1e-6)
    assert shares[1] == pytest.approx(5 / 6, rel=1e-6)  # where 40 / (q + 0.5) = 20 / (1 - q + 0.5)


def test_gradient_balance_steps_as_worked_by_hand() -> None:
    reduction, state = start("gradient_balanced(decay=0.5)")
    assert reduction(UPDATE, state)[0].tolist() == [1, 1, 1, 1]
    state = reduction.next_state(state, observed(norms=(2, 4)))
    # averages 2 and 4: weights in proportion 0.5 and 0.25, of mean (30 x 0.5 + 10 x 0.25) / 40 = 0.4375
    assert reduction(UPDATE, state)[0] == pytest.approx([4 / 7, 8 / 7, 8 / 7, 4 / 7])
    state = reduction.next_state(state, observed(utterances=(3, 0), norms=(4, 99)))
    # the first average is (0.25 x 2 + 0.5 x 4) / 0.75 = 10 / 3, the second still 4
    weight_N, normaliser = reduction(UPDATE, state)
    assert weight_N[1] / weight_N[0] == pytest.approx(4 / (10 / 3))
    assert normaliser == 4.0


def test_a_group_not_seen_yet_counts_as_the_average_of_those_that_were() -> None:
    reduction = parse("gradient_balanced(decay=0.5)")
    state = reduction.initial_state(("a", "b", "c"), np.array([1, 1, 1]))
    state = reduction.next_state(state, observed((1, 1, 0), (1, 1, 0), (1, 1, 0), norms=(2, 6, 0)))
    update = Update(np.ones(3), np.ones(3), np.array([0, 1, 2]), ("a", "b", "c"), np.array([1, 1, 1]))
    weight_N, _ = reduction(update, state)
    assert weight_N / weight_N[2] == pytest.approx([4 / 2, 4 / 6, 1])


steps = st.lists(
    st.tuples(
        *(st.tuples(st.integers(0, 40), st.floats(0, 5e3), st.integers(0, 3000), st.floats(0, 1e4)) for _ in range(2))
    ),
    max_size=12,
)


@pytest.mark.parametrize("text", STATEFUL)
@given(rows=steps)
def test_weights_stay_a_distribution_and_the_state_survives_a_checkpoint(text: str, rows) -> None:
    reduction, state = start(text)
    for row in rows:
        utterances, losses, frames, norms = zip(*row)
        present = np.array(utterances) > 0
        before = state.as_dict()
        following = reduction.next_state(state, observed(utterances, losses * present, frames * present, norms))
        assert state.as_dict() == before
        state = following
    assert State.from_dict(json.loads(json.dumps(state.as_dict()))) == state
    weight_N, normaliser = reduction(UPDATE, state)
    assert np.all(np.isfinite(weight_N) & (weight_N > 0))
    assert math.isfinite(normaliser)
    if "q" in state.values:
        assert state.array("q").sum() == pytest.approx(1, abs=1e-9)
        assert np.all(state.array("q") >= MINIMUM_SHARE / 4)
    else:
        mean_weight = weight_N[[1, 0]] @ TRAINING_COUNTS / TRAINING_COUNTS.sum()
        assert mean_weight == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("text", STATEFUL)
def test_an_update_that_was_not_finite_leaves_what_is_remembered(text: str) -> None:
    reduction, state = start(text)
    state = reduction.next_state(state, observed(losses=(30, 10), frames=(600, 700), norms=(2, 3)))
    broken = observed(losses=(math.nan, math.inf), frames=(100, 100), norms=(math.nan, math.inf))
    assert reduction.next_state(state, broken) == state


@pytest.mark.parametrize("text", [text for text in STATEFUL if "dro" in text])
def test_losses_of_thousands_of_nats_do_not_overflow(text: str) -> None:
    reduction, state = start(text)
    for _ in range(50):
        state = reduction.next_state(state, observed(losses=(1e6, 1.0), frames=(5000, 5000)))
    assert np.all(np.isfinite(state.array("q")))
    assert state.array("q")[0] > state.array("q")[1] > 0


@pytest.mark.parametrize("text", [text for text in SPELLINGS if text not in STATEFUL])
def test_those_that_remember_nothing_have_an_empty_state_and_keep_it(text: str) -> None:
    reduction, state = start(text)
    assert state == State()
    assert reduction.next_state(state, observed()) is state
    assert not reduction.needs_gradient_norms


def test_only_gradient_balance_asks_for_gradient_norms() -> None:
    assert [name for name in REDUCTIONS if name in STATEFUL and parse(name).needs_gradient_norms] == [
        "gradient_balanced"
    ]
    reduction, state = start("gradient_balanced")
    with pytest.raises(ValueError, match="gradient_norm_G"):
        reduction.next_state(state, Observed.of(UPDATE, np.array([1.0, 1.0])))


@pytest.mark.parametrize("text", STATEFUL)
def test_a_state_that_is_missing_or_of_other_groups_is_refused(text: str) -> None:
    reduction, _ = start(text)
    with pytest.raises(ValueError, match="got none"):
        reduction(UPDATE)
    other = reduction.initial_state(("word", "sentence"), TRAINING_COUNTS)
    with pytest.raises(ValueError, match=r"\['word', 'sentence'\]"):
        reduction(UPDATE, other)
    with pytest.raises(ValueError, match="at least 1"):
        reduction.initial_state(GROUPS, np.array([3, 0]))


def test_a_saved_state_with_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="'q' has 1 values"):
        State.from_dict({"groups": ["a", "b"], "values": {"q": [1.0]}})
