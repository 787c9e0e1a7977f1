"""What a trial uses of a store: its utterances, each in the split that the trial has it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.corpora import splits
from trainables.corpora.assembling import DUPLICATE
from trainables.corpora.store import Store
from trainables.selection import EVERYTHING, KIND_COLUMNS, Selection

_NEEDED = ("utt_id", "split", "speaker", "corpus")


@dataclass(frozen=True)
class Usage:
    """Which utterances, and in which split.

    Attributes:
        split: a named split in place of the data's own (`trainables.corpora.splits`); None: the data's own.
        selection: which utterances are used at all.
    """

    split: str | None = None
    selection: Selection = EVERYTHING

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> Usage:
        """Read the keys of [Training Configuration]."""
        return cls(training.get("split") or None, Selection.of(training))

    def columns(self, store: Store, names: Sequence[str] = ()) -> tuple[list[int], dict[str, list[Any]]]:
        """Read columns of the utterances that are used; utt_id, split, speaker and corpus are always among them.

        A named split is made of all utterances of the data, before any is left out: neither filters nor what a model of the
        study cannot use move anybody.

        Returns:
            the row of each utterance in the store, and its columns.

        Raises:
            DataError: no such column, split, corpus or speaker; or the split leaves train, validation or test empty.
        """
        has = store.table.column_names
        wanted = dict.fromkeys((*_NEEDED, *(kind for kind in KIND_COLUMNS if kind in has), *names))
        if self.split is not None:
            wanted |= dict.fromkeys(name for name in splits.COLUMNS if name in has)
        every = store.columns(list(wanted))
        if self.split is not None:
            every["split"] = _assigned(self.split, every, store)
        rows = [row for row in self.selection.kept(every) if every["split"][row]]
        return rows, {name: [values[row] for row in rows] for name, values in every.items()}


def _assigned(split: str, every: Mapping[str, Sequence[Any]], store: Store) -> list[str]:
    """Split the utterances of a store together with those that only its models could not use.

    Else another model in a study would move others: one that trained a model would test it in the next study.
    """
    unfit = [one for one in store.rejects() if one.get("corpus") is not None and one["reason"] != DUPLICATE]
    whole = {name: [*every[name], *(one.get(name) or "" for one in unfit)] for name in splits.COLUMNS if name in every}
    return splits.checked(split, whole)[: len(every["utt_id"])]


WHOLE = Usage()
"""All of a store, in its own splits."""
