"""Curves of the dashboard keep what they show when they are thinned, and are read again only where they changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from launcher import dashboard_curves as curves
from launcher import results
from launcher.dashboard_curves import Histories, Subject
from tests.launcher.studies import put


def write_history(out: Path, trial_id: str, **columns: object) -> Path:
    place = put(out, trial_id)
    pd.DataFrame(columns).to_parquet(place / "history.parquet")
    return place / "history.parquet"


@pytest.mark.parametrize("length", [1, 299, 300, 301, 1000, 4567])
def test_a_thinned_curve_is_short_ascending_and_keeps_its_mean(length: int) -> None:
    update, value = np.arange(1.0, length + 1), np.random.default_rng(0).normal(size=length)
    thin_update, thin_value = curves.thinned(update, value, 300)
    assert len(thin_update) == len(thin_value) <= 300
    assert (np.diff(thin_update) > 0).all()
    size = -(-length // 300)
    count = np.minimum(size, length - size * np.arange(len(thin_value)))
    assert (thin_value * count).sum() == pytest.approx(value.sum())
    assert (thin_update * count).sum() == pytest.approx(update.sum())


def test_the_mean_of_curves_of_different_lengths_is_over_those_that_got_that_far() -> None:
    update, value = curves.mean_curve(
        [(np.array([1.0, 2, 3]), np.array([1.0, 2, 3])), (np.array([1.0, 2]), np.array([3.0, 4]))]
    )
    assert update.tolist() == [1, 2, 3]
    assert value.tolist() == [2, 3, 3]


def test_values_that_are_not_finite_leave_no_trace(tmp_path: Path) -> None:
    path = write_history(tmp_path, "a", update=[1, 2, 3], loss=[np.nan, 2.0, np.inf], nll_per_label=[np.nan] * 3)
    read = curves.read_history(path)
    assert {name: (update.tolist(), value.tolist()) for name, (update, value) in read.items()} == {
        "loss": ([2.0], [2.0])
    }


def test_only_files_that_changed_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = curves.read_history
    monkeypatch.setattr(curves, "read_history", lambda path: (read.append(path.parent.name), real(path))[1])
    for name in "ab":
        write_history(tmp_path, name, update=[1], loss=[1.0])
    histories = Histories(tmp_path)
    for _ in range(3):
        histories.read(["a", "b", "c"])
    first = histories.version
    os.utime(write_history(tmp_path, "a", update=[1, 2], loss=[1.0, 0.5]), ns=(1, 1))
    histories.read(["a", "b", "c"])
    assert read == ["a", "b", "a"]
    assert histories.version != first
    assert histories.curves["a"]["loss"][1].tolist() == [1.0, 0.5]
    (results.trial_folder(tmp_path, "b") / "history.parquet").unlink()
    histories.read(["a", "b", "c"])
    assert set(histories.curves) == {"a"}


def test_a_damaged_history_is_told_of_and_the_others_are_drawn(tmp_path: Path) -> None:
    for name in "ab":
        write_history(tmp_path, name, update=[1], loss=[1.0])
    damaged = results.trial_folder(tmp_path, "a") / "history.parquet"
    damaged.write_bytes(b"PAR1")
    histories = Histories(tmp_path)
    histories.read("ab")
    assert set(histories.curves) == {"b"}
    assert str(damaged) in histories.unreadable["a"]
    write_history(tmp_path, "a", update=[1], loss=[1.0])
    histories.read("ab")
    assert histories.unreadable == {}


def test_a_thousand_trials_are_few_points_and_few_traces() -> None:
    update = np.arange(1.0, 301)
    subjects = [Subject(f"t{i}", f"variant {i % 10}", i % 3 > 0) for i in range(1000)]
    found = curves.figures(subjects, {subject.trial_id: {"loss": (update, update)} for subject in subjects})
    (figure,) = found
    thin = [trace for trace in figure["data"] if not trace.get("showlegend", True)]
    assert len(figure["data"]) == 30
    points = sum(value is not None for trace in thin for value in trace["y"])
    assert points <= 1000 * 12
    assert max(len(trace["x"]) for trace in figure["data"]) < 2000
    json.dumps(found, allow_nan=False)


def test_names_are_text_and_not_markup() -> None:
    subjects = [Subject(f"<b>{i}", "<img src=x>", True) for i in range(2)]
    one = (np.array([1.0]), np.array([1.0]))
    (figure,) = curves.figures(subjects, {subject.trial_id: {"loss": one} for subject in subjects})
    assert "<img" not in json.dumps(figure)
    assert "<b>" not in json.dumps(figure)


def test_a_steep_fall_is_drawn_on_a_logarithmic_axis_and_a_shallow_one_is_not() -> None:
    for low, kind in ((0.1, "log"), (3.0, None)):
        fall = (np.array([1.0, 2.0]), np.array([9.0, low]))
        (figure,) = curves.figures([Subject("a", "v", True)], {"a": {"loss": fall}})
        assert figure["layout"]["yaxis"].get("type") == kind
