"""One store out of several: their union, without what a model of the study cannot be trained on; audio is not copied."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.corpora import contents, writing
from trainables.corpora.assembling import Duplicates
from trainables.corpora.fitting import Fit, Model
from trainables.corpora.store import Store, audio_of
from trainables.errors import DataError
from trainables.vocabulary import Vocabulary

# What a store says of itself that does not add up over several.
_HOW_MADE = ("source", "split", "options", "channels_left_out", "selected_from")


@dataclass(frozen=True)
class Source:
    """A store that data are taken from.

    Attributes:
        store: opened, perhaps a copy of it.
        location: folder or URI by which every node finds it.
        copied: whether `store` is a copy in the cache of this node.
    """

    store: Store
    location: str
    copied: bool = False


def select(sources: Sequence[Source], models: Sequence[Model], folder: Path) -> Store:
    """Return a store of what all models of a study can be trained on.

    Args:
        sources: the stores to unite.
        models: what the models need.
        folder: where the selection is kept, under a name that says what it is made from.

    Returns:
        the only source itself, where nothing of it is left out.

    Raises:
        DataError: two sources hold the same utterance under the same corpus, or train or validation is left empty.
    """
    path = folder / f"{_name(sources)}-{_key(sources, models)}"
    if (path / writing.DESCRIPTION).is_file():
        return Store.open(path)
    selection = _Selection(sources, models)
    if len(sources) == 1 and not sources[0].copied and not selection.left_out:
        selection.require_splits()
        return sources[0].store
    selection.require_splits()
    with writing.space_needed(path), writing.temporary_folder(path) as temporary:
        writing.write_rows(temporary, selection.rows, selection.places)
        writing.write_description(temporary, selection.describe(), selection.rejects, selection.audio)
        writing.put_in_place(temporary, path)
    return Store.open(path)


def _name(sources: Sequence[Source]) -> str:
    names = [source.location.rstrip("/").rpartition("/")[2] for source in sources]
    return names[0] if len(names) == 1 else f"{len(names)}-sources"


def _key(sources: Sequence[Source], models: Sequence[Model]) -> str:
    located = [(source.location, source.store.identity) for source in sources]
    return hashlib.sha256(f"{contents.PREPARATION_VERSION} {writing.LAYOUT} {located} {models}".encode()).hexdigest()[
        :8
    ]


class _Selection:
    """Rows, places and rejects of a union."""

    def __init__(self, sources: Sequence[Source], models: Sequence[Model]) -> None:
        self.sources = sources
        self.rows: list[dict[str, Any]] = []
        self.places: list[tuple[int, int]] = []
        self.rejects: list[dict[str, Any]] = [reject for source in sources for reject in source.store.rejects()]
        self.audio = [entry for source in sources for entry in audio_of(source.store, source.location)]
        rows = list(_united(sources))
        training = (row["transcript"] for _, row, _ in rows if row["split"] == "train")
        fit, duplicates = Fit(models, Vocabulary.from_transcripts(training)), Duplicates()
        self.left_out: list[dict[str, Any]] = []
        for number, row, place in rows:
            problem = duplicates.problem(row["utt_id"], row["audio_sha256"], row["transcript"]) or fit.problem(row)
            if problem is None:
                duplicates.add(row["utt_id"], row["audio_sha256"], row["transcript"])
                self.rows.append(row)
                self.places.append((number, place))
            else:
                kept = {name: row[name] for name in ("utt_id", "split", "group", "speaker")}
                self.left_out.append({**kept, "reason": problem[0], "detail": problem[1]})
        self.rejects += self.left_out

    def require_splits(self) -> None:
        """Refuse data that nothing can be learned from.

        Raises:
            DataError: train or validation is empty.
        """
        for split in ("train", "validation"):
            if not any(row["split"] == split for row in self.rows):
                raise DataError(
                    f"{', '.join(source.location for source in self.sources)}: no usable utterance in the split {split!r} "
                    f"(usable: {len(self.rows)}, rejected: {contents.by_reason(self.rejects) or 'none'}); both train and "
                    "validation are needed"
                )

    def describe(self) -> dict[str, Any]:
        """Return the content of `store.json`."""
        parts = [source.store.description for source in self.sources]
        filled = {name: value for part in parts for name, value in part.get("filled", {}).items()}
        about = {
            "source": ",".join(str(part.get("source")) for part in parts),
            "filled": filled,
            "notes": list(dict.fromkeys(note for part in parts for note in part.get("notes", ()))),
            "selected_from": [
                {"location": source.location, "fingerprint": source.store.fingerprint, **_how_made(source.store)}
                for source in self.sources
            ],
        }
        return contents.describe(self.rows, self.rejects, about)


def _how_made(store: Store) -> dict[str, Any]:
    return {name: store.description[name] for name in _HOW_MADE if name in store.description}


def _united(sources: Sequence[Source]) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Yield (audio file, columns, place in it) of every utterance; all have the columns of all sources."""
    names = tuple(dict.fromkeys(name for source in sources for name in source.store.table.column_names))
    fill = {name: 1 if name == "channels_used" else "" for name in names}
    ids = Counter(utt_id for source in sources for utt_id in source.store.columns(["utt_id"])["utt_id"])
    seen: dict[str, str] = {}
    first_file = 0
    for source in sources:
        file_N, place_N = source.store.places
        for row, file, place in zip(source.store.table.to_pylist(), file_N.tolist(), place_N.tolist()):
            if ids[row["utt_id"]] > 1:
                row["utt_id"] = _apart(row, source.location, seen)
            yield first_file + file, {**fill, **row}, place
        first_file += len(source.store.description["audio"])


def _apart(row: Mapping[str, Any], location: str, seen: dict[str, str]) -> str:
    """Name an utterance whose utt_id several sources have, by its corpus."""
    name = f"{row['corpus']}/{row['utt_id']}"
    if name in seen:
        raise DataError(
            f"the utterance {row['utt_id']!r} of the corpus {row['corpus']!r} is in {seen[name]} and in {location}; give "
            "each corpus once, or name them apart in the column corpus"
        )
    seen[name] = location
    return name
