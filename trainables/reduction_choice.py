"""Which reduction a trial uses: `reduction` as it is written, or the original's list of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainables import reductions
from trainables.errors import DataError
from trainables.model_options import CONTROL, DYSARTHRIC, ordered
from trainables.reductions import Reduction


def choose(settings: Mapping[str, Any], groups: Sequence[str]) -> Reduction:
    """Read the reduction of a trial.

    `dataset_loss_weighting = 1.31, 0.71, 1.20` is the original experiment's spelling of
    `dataset_weighted(dysarthric=1.31, l2=0.71, control=1.2)`: weights by the number of the class (dysarthric, l2, control
    as far as they occur, then all others by name). With `no_control_layer` control counts as dysarthric.

    Args:
        settings: [Model Configuration].
        groups: classes of the training set that reductions weigh.

    Raises:
        DataError: the list has not one weight per class, or the reduction does not fit the groups.
    """
    weights = settings.get("dataset_loss_weighting")
    reduction = reductions.parse(settings.get("reduction", "mean"))
    if weights:
        merges = bool(settings.get("no_control_layer"))
        classes = ordered(group for group in groups if not (merges and group == CONTROL))
        if len(weights) != len(classes):
            names = ", ".join(f"{name}=1" for name in ordered(groups))
            raise DataError(
                f"dataset_loss_weighting has {len(weights)} weights, and the training set has {len(classes)} classes in "
                f"the column {settings.get('reduction_group', 'group')}: {', '.join(classes)}; give one weight for each "
                f"in this order, or name them: reduction = dataset_weighted({names})"
            )
        named = dict(zip(classes, (float(weight) for weight in weights)))
        if merges and CONTROL in groups:
            named[CONTROL] = named[DYSARTHRIC]
        reduction = Reduction("dataset_weighted", {group: named[group] for group in groups})
    reduction.check(groups)
    return reduction


def audit_lacks(reduction: Reduction, audited: Sequence[str], training: Sequence[str]) -> list[str]:
    """Say of which audited groups a reduction does not know how it would weigh them in training.

    Weights by group follow from the training set: from its groups, and from how many utterances each has there. Only
    `dataset_weighted`, which names its groups, can do without a training set.

    Args:
        reduction: any.
        audited: groups of the audited utterances.
        training: groups of the training set; empty where the data have none.

    Returns:
        the groups, empty where the reduction can be audited.
    """
    if not reduction.needs_groups or (not training and reduction.name == "dataset_weighted"):
        return []
    return [group for group in audited if group not in training]
