"""What is checked and made ready once, before any trial starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables import reductions
from trainables.corpora import prepare as corpora
from trainables.corpora.store import Store
from trainables.errors import DataError


def prepare(
    source: str,
    folder: Path,
    models: Sequence[Mapping[str, Any]],
    groups: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> Store:
    """Prepare the data of a study and check that its models can be trained on it.

    Args:
        source: "sample", a manifest or a prepared store.
        folder: where stores are kept.
        models: the [Model Configuration] of each trial.
        groups: columns by which scores are split.
        progress: called with (utterances done, utterances in all).

    Raises:
        DataError: the data cannot be used, a group column is missing, or two columns share a value.
    """
    wanted = dict.fromkeys((model["model_type"], model.get("pretrained_model_name")) for model in models)
    store = corpora.prepare(source, folder, list(wanted), progress)
    weighed = {(model.get("reduction", "mean"), model.get("reduction_group", "group")) for model in models}
    for reduction, column in sorted(weighed):
        rows = store.columns([column, "split"])
        trained = {value for value, split in zip(rows[column], rows["split"]) if split == "train"}
        reductions.parse(reduction).check(tuple(sorted(trained)))
    owner: dict[str, str] = {}
    for column, values in store.columns(groups).items():
        for value in dict.fromkeys(values):
            if value in owner:
                raise DataError(
                    f"the group columns {owner[value]} and {column} both hold {value!r}, so `wer/{value}` would be "
                    "ambiguous; rename it in the manifest or leave one column out of groups"
                )
            owner[value] = column
    return store
