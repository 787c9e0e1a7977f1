"""One store out of several: their union, without what a model of the study cannot be trained on; audio is not copied."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.corpora import contents, splits, writing
from trainables.corpora.assembling import Duplicates
from trainables.corpora.audio import SAMPLE_RATE_HZ
from trainables.corpora.fitting import Fit, Model
from trainables.corpora.store import Store, audio_of
from trainables.errors import DataError
from trainables.vocabulary import Vocabulary

# What a store says of itself that does not add up over several.
_HOW_MADE = ("source", "split", "options", "channels_left_out", "several_channels", "selected_from")


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


def select(sources: Sequence[Source], models: Sequence[Model], folder: Path, needs: Sequence[str] = ()) -> Store:
    """Return a store of what all models of a study can be trained on.

    Args:
        sources: the stores to unite.
        models: what the models need; none: what a store alone can tell.
        folder: where the selection is kept, under a name that says what it is made from.
        needs: splits that must not be empty.

    Returns:
        the only source itself, where nothing of it is left out.

    Raises:
        DataError: two sources hold the same utterance under the same corpus, nothing or nothing of a needed split is left,
            or a model takes its labels from training utterances that there are not.
    """
    path = folder / f"{_name(sources)}-{_key(sources, models)}"
    if (path / writing.DESCRIPTION).is_file():
        found = Store.open(path)
        _require(sources, found.columns(["split"])["split"], found.description["rejects"], needs)
        return found
    selection = _Selection(sources, models)
    rejects = contents.by_reason(selection.rejects)
    _require(sources, [row["split"] for row in selection.rows], rejects, needs)
    if len(sources) == 1 and not sources[0].copied and not selection.left_out:
        return sources[0].store
    with writing.space_needed(path), writing.temporary_folder(path) as temporary:
        writing.write_rows(temporary, selection.rows, selection.places)
        audio = [_beside(entry, folder) for entry in selection.audio]
        writing.write_description(temporary, selection.describe(), selection.rejects, audio)
        writing.put_in_place(temporary, path)
    return Store.open(path)


def _beside(entry: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Name a store that lies beside the selection from there: the folder of both may be copied to other nodes."""
    path = Path(entry["location"])
    is_near = path.is_absolute() and path.parent == folder.resolve()
    return {**entry, "location": f"../{path.name}"} if is_near else dict(entry)


def _require(
    sources: Sequence[Source], split_N: Sequence[str], rejects: Mapping[str, int], needs: Sequence[str]
) -> None:
    """Refuse data that a study can do nothing with."""
    missing = [split for split in needs if split not in split_N]
    if split_N and not missing:
        return
    names = ", ".join(source.location for source in sources)
    rejected = ", ".join(f"{count} {reason}" for reason, count in rejects.items()) or "none"
    where = f" in the split {missing[0]!r}" if missing else ""
    needed = f"; needed: {' and '.join(needs)}" if needs else ""
    raise DataError(f"{names}: no usable utterance{where} (usable: {len(split_N)}, rejected: {rejected}){needed}")


def _name(sources: Sequence[Source]) -> str:
    names = [source.location.rstrip("/").rpartition("/")[2] for source in sources]
    return names[0] if len(names) == 1 else f"{len(names)}-sources"


def _key(sources: Sequence[Source], models: Sequence[Model]) -> str:
    located = [(source.location, source.store.identity) for source in sources]
    return hashlib.sha256(f"{contents.PREPARATION_VERSION} {writing.LAYOUT} {located} {models}".encode()).hexdigest()[
        :8
    ]


@dataclass
class Part:
    """What a store holds of one of its sources.

    Attributes:
        utterances: how many.
        samples: how long, at 16 kHz.
        by_split: utterances of each split.
        left_out: utterances of the source that are not in the store, by reason.
    """

    utterances: int = 0
    samples: int = 0
    by_split: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, row: Mapping[str, Any]) -> None:
        """Count an utterance."""
        self.utterances += 1
        self.samples += row["samples"]
        self.by_split[row["split"]] += 1

    def described(self) -> dict[str, Any]:
        """Return the counts as `store.json` has them."""
        return {
            "utterances": self.utterances, "seconds": round(self.samples / SAMPLE_RATE_HZ, 3),
            "by_split": dict(sorted(self.by_split.items())), "left_out": dict(self.left_out.most_common()),
        }  # fmt: skip


def _labels(models: Sequence[Model], rows: Sequence[Mapping[str, Any]]) -> Vocabulary:
    """Collect the labels of models that start from scratch."""
    training = [row["transcript"] for row in rows if row["split"] == "train"]
    if not training and any(model.vocabulary is None for model in models):
        raise DataError(
            "no utterance has the split 'train', and a model that starts from scratch has the characters of these as labels; "
            "give a trained model (load_model or pretrained_model_name), or data with a train split"
        )
    return Vocabulary.from_transcripts(training)


def _left_out(row: Mapping[str, Any], reason: str, detail: str) -> dict[str, Any]:
    # With what named splits look at, because it goes on having its place in them.
    known = {name: row[name] for name in ("split", *splits.COLUMNS) if name in row}
    return {**known, "reason": reason, "detail": detail}


class _Selection:
    """Rows, places and rejects of a union."""

    def __init__(self, sources: Sequence[Source], models: Sequence[Model]) -> None:
        self.sources = sources
        self.rows: list[dict[str, Any]] = []
        self.places: list[tuple[int, int]] = []
        self.rejects: list[dict[str, Any]] = [reject for source in sources for reject in source.store.rejects()]
        self.audio = [entry for source in sources for entry in audio_of(source.store, source.location)]
        rows = list(_united(sources))
        fit, duplicates = Fit(models, _labels(models, [row for _, _, row, _ in rows])), Duplicates()
        self.left_out: list[dict[str, Any]] = []
        self.parts = [Part() for _ in sources]
        for source, number, row, place in rows:
            problem = duplicates.problem(row["utt_id"], row["audio_sha256"], row["transcript"]) or fit.problem(row)
            if problem is None:
                duplicates.add(row["utt_id"], row["audio_sha256"], row["transcript"])
                self.rows.append(row)
                self.places.append((number, place))
                self.parts[source].take(row)
            else:
                self.left_out.append(_left_out(row, *problem))
                self.parts[source].left_out[problem[0]] += 1
        self.rejects += self.left_out

    def describe(self) -> dict[str, Any]:
        """Return the content of `store.json`."""
        parts = [source.store.description for source in self.sources]
        filled = {name: value for part in parts for name, value in part.get("filled", {}).items()}
        about = {
            "source": ",".join(str(part.get("source")) for part in parts),
            "filled": filled,
            "notes": list(dict.fromkeys(note for part in parts for note in part.get("notes", ()))),
            "selected_from": [
                {
                    "location": source.location,
                    "fingerprint": source.store.fingerprint,
                    **_how_made(source.store),
                    **part.described(),
                    "rejects": source.store.description["rejects"],
                }
                for source, part in zip(self.sources, self.parts)
            ],
            "several_channels": sum(part.get("several_channels", 0) for part in parts),
        }
        return contents.describe(self.rows, self.rejects, about)


def _how_made(store: Store) -> dict[str, Any]:
    return {name: store.description[name] for name in _HOW_MADE if name in store.description}


def _united(sources: Sequence[Source]) -> Iterator[tuple[int, int, dict[str, Any], int]]:
    """Yield (source, audio file, columns, place in it) of every utterance; all have the columns of all sources."""
    names = tuple(dict.fromkeys(name for source in sources for name in source.store.table.column_names))
    fill = {name: 1 if name == "channels_used" else "" for name in names}
    ids = Counter(utt_id for source in sources for utt_id in source.store.columns(["utt_id"])["utt_id"])
    seen: dict[str, str] = {}
    first_file = 0
    for number, source in enumerate(sources):
        file_N, place_N = source.store.places
        for row, file, place in zip(source.store.table.to_pylist(), file_N.tolist(), place_N.tolist()):
            if ids[row["utt_id"]] > 1:
                row["utt_id"] = _apart(row, source.location, seen)
            yield number, first_file + file, {**fill, **row}, place
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
