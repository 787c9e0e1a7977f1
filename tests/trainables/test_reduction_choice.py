"""The original's list of weights means what it meant."""

from __future__ import annotations

import pytest

from trainables.errors import DataError
from trainables.reduction_choice import choose

GROUPS = ("control", "dysarthric", "l2")


def test_the_list_is_in_the_order_of_the_original_tasks_not_of_the_alphabet() -> None:
    chosen = choose({"dataset_loss_weighting": [1.31, 0.71, 1.2], "reduction": "mean"}, GROUPS)
    assert chosen.parameters == {"control": 1.2, "dysarthric": 1.31, "l2": 0.71}


def test_without_a_layer_of_their_own_controls_weigh_as_dysarthric_speakers() -> None:
    chosen = choose({"dataset_loss_weighting": [1.35, 0.79], "no_control_layer": True}, GROUPS)
    assert chosen.parameters == {"control": 1.35, "dysarthric": 1.35, "l2": 0.79}


def test_other_classes_follow_by_name() -> None:
    assert choose({"dataset_loss_weighting": [2, 3]}, ("sentence", "word")).parameters == {"sentence": 2, "word": 3}


def test_a_list_of_the_wrong_length_names_the_classes() -> None:
    with pytest.raises(DataError, match=r"2 weights, and the training set has 3 classes .* dysarthric, l2, control"):
        choose({"dataset_loss_weighting": [1.0, 2.0]}, GROUPS)


def test_without_a_list_the_reduction_stands() -> None:
    assert str(choose({"reduction": "power(alpha=0.25)"}, GROUPS)) == "power(alpha=0.25)"
