from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import estimate
from launcher.estimate import Missing, Sample, Spread

DATA = 100


def sections(*, epochs: float = 2, **changes: Any) -> dict[str, dict[str, Any]]:
    arguments = {"num_train_epochs": epochs, "per_device_train_batch_size": 8}
    model, training = {"model_type": "tiny", "reduction": "mean"}, {"split": None}
    for name, value in changes.items():
        (model if name in ("model_type", "reduction") else training if name in training else arguments)[name] = value
    return {"Trainer Arguments": arguments, "Training Configuration": training, "Model Configuration": model}


def sample(seconds: float, **changes: Any) -> Sample:
    return Sample(sections(**changes), Spread(seconds, seconds, seconds))


def left(missing: list[Missing], samples: list[Sample], concurrent: int = 1, start_up: float = 0.0) -> estimate.Time:
    return estimate.time_left(
        missing, samples, concurrent=concurrent, start_up=start_up, assumed=10.0, train_utterances=DATA
    )


def test_trials_like_one_that_is_done_take_as_long_as_it_did() -> None:
    found = left([Missing(sections())] * 4, [sample(10.0)], concurrent=2, start_up=3.0)
    assert found.seconds == Spread(26.0, 26.0, 26.0)
    assert found.unknown == 0


def test_time_grows_with_the_utterances_that_are_passed() -> None:
    twice, steps = sections(epochs=4), sections(max_steps=50)
    assert left([Missing(twice)], [sample(10.0)]).seconds.middle == 20.0
    assert left([Missing(steps)], [sample(10.0)]).seconds.middle == 20.0  # 50 x 8 utterances against 2 x 100


def test_only_what_is_left_of_an_interrupted_trial_counts() -> None:
    assert left([Missing(sections(), rest=0.25)], [sample(8.0)]).seconds.middle == 2.0


def test_the_range_is_that_of_the_fastest_and_the_slowest_trial() -> None:
    found = left([Missing(sections())] * 2, [sample(8.0), sample(10.0), sample(15.0)])
    assert found.seconds == Spread(16.0, 20.0, 30.0)


def test_trials_of_the_same_kind_are_asked_first() -> None:
    samples = [sample(10.0), sample(50.0, reduction="gradient_balanced(decay=0.9)"), sample(900.0, model_type="base")]
    assert left([Missing(sections())], samples).seconds.middle == 10.0
    assert left([Missing(sections(reduction="sum"))], samples).seconds.middle == 30.0


def test_what_was_never_measured_is_told_and_not_counted() -> None:
    found = left([Missing(sections()), Missing(sections(do_train=False))], [sample(10.0)])
    assert (found.unknown, found.seconds.middle) == (1, 10.0)


def test_a_resumed_trial_is_no_sample_because_only_its_last_attempt_was_timed() -> None:
    rows = {
        "a": {"status": "done", "seconds": 5.0, "resumed": False},
        "b": {"status": "done", "seconds": 1.0, "resumed": True},
        "c": {"status": "failed"},
    }
    assert [one.seconds.middle for one in estimate.samples_of(dict.fromkeys(rows, sections()), rows)] == [5.0]


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.integers(1, 8))
def test_a_schedule_is_never_shorter_than_its_longest_trial_nor_than_a_fair_share(
    durations: list[float], concurrent: int
) -> None:
    span = estimate.makespan(durations, concurrent)
    assert span >= max(max(durations), sum(durations) / concurrent) * (1 - 1e-9)
    assert span <= sum(durations) * (1 + 1e-9)


def test_more_devices_never_take_longer_for_equal_trials() -> None:
    spans = [estimate.makespan([7.0] * 24, count) for count in (1, 2, 3, 4, 6)]
    assert all(more < fewer for fewer, more in pairwise(spans))
    assert spans[0] == 24 * 7.0


def stamp(seconds: int) -> str:
    return f"2026-01-01T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}+00:00"


def trial(started: int, finished: int) -> dict[str, Any]:
    return {"started": stamp(started), "finished": stamp(finished)}


def test_start_up_is_the_gap_between_two_trials_on_one_device() -> None:
    assert estimate.start_up([trial(0, 10), trial(17, 30), trial(37, 50)]) == 7.0
    two_devices = [trial(0, 10), trial(0, 14), trial(16, 40), trial(20, 45)]
    assert estimate.start_up(two_devices) == 6.0


def test_a_pause_between_two_launches_is_no_start_up() -> None:
    assert estimate.start_up([trial(0, 10), trial(3000, 3010), trial(3014, 3020)]) == 4.0
    assert estimate.start_up([trial(0, 10)]) is None
    assert estimate.start_up([{"status": "pending"}]) is None


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_updates_of_an_epoch_are_whole(count: int) -> None:
    assert estimate.updates(sections(epochs=3), count) == 3 * math.ceil(count / 8)


def test_updates_are_not_guessed_where_the_data_are_filtered() -> None:
    assert estimate.updates(sections(split="independent"), 100) is None
    assert estimate.updates(sections(split="independent", max_steps=7), 100) == 7
    assert estimate.updates(sections(do_train=False), 100) == 0


def test_what_comes_before_the_first_trial_of_a_device_counts_once() -> None:
    assert estimate.makespan([7.0] * 4, 2, first=5.0) == 5 + 2 * 7
    found = estimate.time_left(
        [Missing(sections())] * 4,
        [sample(7.0)],
        concurrent=2,
        start_up=None,
        assumed=0.0,
        train_utterances=DATA,
        first=5.0,
    )
    assert found.seconds.middle == 5 + 2 * 7
