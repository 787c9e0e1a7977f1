"""The store: a corpus decoded once into Arrow, memory-mapped by every trial on a node.

A store is a folder: `utterances.arrow` (the columns), `audio/*.arrow` (16 kHz mono int16), `places.arrow` (where the audio
of each utterance is), `rejects.parquet` (what cannot be used, with the reason) and `store.json` (fingerprint, vocabulary,
counts). Its audio may also lie in other stores, of which it is then a selection. A store that exists is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from trainables.corpora import contents, remote, writing
from trainables.corpora.recordings import readable
from trainables.corpora.writing import DESCRIPTION, PLACES, REJECTS, TABLE
from trainables.errors import DataError
from trainables.vocabulary import Vocabulary

_NEEDED = (
    "fingerprint", "vocabulary", "utterances", "hours", "counts", "rejects", "rejects_by_group", "audio", "files",
)  # fmt: skip
_LITTLE_ENDIAN_INT16 = np.dtype("<i2")


class _Recordings:
    """The audio of one file, where it is mapped: Arrow's own access to a value copies it."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._first = np.cumsum([0, *(len(chunk) for chunk in self._chunks)])

    def samples(self, place: int) -> np.ndarray:
        """Return samples_S of one row."""
        number = int(np.searchsorted(self._first, place, side="right")) - 1
        chunk = self._chunks[number]
        _, offsets, audio = chunk.buffers()
        start, end = np.frombuffer(offsets, np.int64, 2, 8 * (chunk.offset + place - int(self._first[number])))
        item = _LITTLE_ENDIAN_INT16.itemsize
        return np.frombuffer(audio, _LITTLE_ENDIAN_INT16, int(end - start) // item, int(start))


@dataclass(frozen=True)
class Store:
    """A prepared corpus.

    Attributes:
        path: its folder.
        description: `store.json`: fingerprint, source, vocabulary, text_normalisation, counts, rejects, filled ...
    """

    path: Path
    description: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Open a prepared store.

        Raises:
            DataError: the folder is no store, one of another version, or one with a name that is not UTF-8; a file of it is
                missing or of another size.
        """
        path = Path(path)
        if readable(str(path)) != str(path):
            raise DataError(f"{str(path)!r} is a name that is not UTF-8; rename the folder of the store")
        try:
            description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a prepared store ({error})") from error
        layout = description.get("layout", 1) if isinstance(description, dict) else None
        if layout != writing.LAYOUT:
            raise DataError(
                f"{path} is a store of layout {layout!r}; this version reads {writing.LAYOUT}: prepare the data again"
            )
        version = description.get("preparation_version")
        if version != contents.PREPARATION_VERSION:
            # Of another version the samples, and the hashes by which equal sound is known, are others.
            raise DataError(
                f"{path} was prepared by version {version!r}; this is version {contents.PREPARATION_VERSION}: prepare the "
                "data again, into another folder"
            )
        _check(path, description)
        return cls(path, description)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the folder, not what is mapped into memory."""
        return Store, (self.path, self.description)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a trial can see of the data."""
        return self.description["fingerprint"]

    @property
    def vocabulary(self) -> Vocabulary:
        """Characters of the training transcripts, as labels of a model that starts from scratch."""
        return Vocabulary(tuple(self.description["vocabulary"]))

    @property
    def identity(self) -> str:
        """Hash of every file of the store."""
        return remote.identity((self.path / DESCRIPTION).read_bytes())

    @cached_property
    def table(self) -> pa.Table:
        """All utterances, memory-mapped: columns of the manifest, `transcript` (normalised), `samples`."""
        return _mapped(self.path / TABLE)

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the audio of each of the N utterances is: file_N, a place in `description["audio"]`, and row_N in it."""
        table = _mapped(self.path / PLACES)
        return table.column("file").to_numpy(), table.column("place").to_numpy()

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Read columns as Python lists.

        Raises:
            DataError: the store has no such column; the message lists those it has.
        """
        if missing := [name for name in names if name not in self.table.column_names]:
            has = ", ".join(self.table.column_names)
            raise DataError(f"the data has no column {', '.join(missing)}; it has: {has}")
        return {name: self.table.column(name).to_pylist() for name in names}

    def samples(self, row: int) -> np.ndarray:
        """Return the audio of a row as samples_S, int16, without copying."""
        file_N, place_N = self.places
        return self._audio(int(file_N[row])).samples(int(place_N[row]))

    def rejects(self) -> list[dict[str, Any]]:
        """Return what was rejected: utt_id, reason, detail, split, group, speaker.

        What only the models of a study could not use also has what named splits look at (corpus, transcript ...); these
        columns are None for the others, and absent where there are none.
        """
        return pyarrow.parquet.read_table(self.path / REJECTS).to_pylist()

    @cached_property
    def _opened(self) -> dict[int, _Recordings]:
        return {}

    @cached_property
    def _folders(self) -> dict[str, Path]:
        return {}

    def _audio(self, number: int) -> _Recordings:
        """Map a file of audio, of this store or of the one that it selects from, when it is first asked for."""
        if number not in self._opened:
            entry = self.description["audio"][number]
            location = entry.get("location")
            if location is None:
                folder = self.path
            elif location in self._folders:
                folder = self._folders[location]
            else:
                folder = self._folders[location] = _other_store(self.path, location, entry["identity"])
            self._opened[number] = _Recordings(_mapped(folder / entry["file"]).column("audio"))
        return self._opened[number]


def write(
    path: Path,
    batches: Callable[[], Any],
    rejects: Callable[[], Sequence[Mapping[str, str]]],
    describe: Callable[[list[dict[str, Any]]], dict[str, Any]],
) -> Store:
    """Write a store of few utterances, whole or not at all.

    Args:
        path: its folder, which must not exist.
        batches: yields lists of rows: text columns, `audio` (int16 bytes) and `samples`.
        rejects: called after the last batch; the rejected rows.
        describe: called with all rows, without their audio; returns the content of `store.json`.
    """
    with writing.temporary_folder(path) as temporary:
        name = f"{writing.AUDIO_FOLDER}/00000.arrow"
        (temporary / writing.AUDIO_FOLDER).mkdir()
        seen = [row for rows in batches() for row in rows]
        audio = pa.table({"audio": pa.array([row["audio"] for row in seen], type=pa.large_binary())})
        with pa.OSFile(str(temporary / name), "wb") as sink, pa.ipc.new_file(sink, audio.schema) as writer:
            writer.write_table(audio)
        rows = [{key: value for key, value in row.items() if key != "audio"} for row in seen]
        writing.write_rows(temporary, rows, [(0, place) for place in range(len(rows))])
        writing.write_description(temporary, describe(rows), rejects(), [{"file": name}])
        writing.put_in_place(temporary, path)
    return Store.open(path)


def audio_of(store: Store, location: str) -> list[dict[str, str]]:
    """Say where the audio files of a store are, for a store that selects from it.

    Args:
        store: its folder may be a copy.
        location: folder or URI that names it on every node.
    """
    own = {"location": location, "identity": store.identity}
    return [
        {**entry, "location": _absolute(store.path, entry["location"])}
        if "location" in entry
        else {"file": entry["file"], **own}
        for entry in store.description["audio"]
    ]


def _absolute(path: Path, location: str) -> str:
    """Return where a store lies that another one may name by a relative path."""
    return location if remote.is_uri(location) else os.path.normpath(path.resolve() / location)


def _check(path: Path, description: Mapping[str, Any]) -> None:
    """Refuse a store that was copied in part; hashes are checked where it is fetched, they would take minutes here."""
    copied = "it was copied in part or changed: copy or prepare it again"
    if missing := [name for name in _NEEDED if name not in description]:
        raise DataError(f"{path} is no whole store ({DESCRIPTION} lacks {', '.join(missing)}); {copied}")
    try:
        sizes = {str(entry["file"]): int(entry["bytes"]) for entry in description["files"]}
        own = [str(entry["file"]) for entry in description["audio"] if "location" not in entry]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no whole store ({DESCRIPTION} does not list its files: {error!r}); {copied}"
        ) from error
    if unlisted := [name for name in (TABLE, PLACES, REJECTS, *own) if name not in sizes]:
        raise DataError(f"{path} is no whole store ({DESCRIPTION} does not list {unlisted[0]}); {copied}")
    for name, size in sizes.items():
        try:
            found = (path / name).stat().st_size
        except OSError as error:
            raise DataError(f"{path} is no whole store ({name}: {error.strerror}); {copied}") from error
        if found != size:
            raise DataError(f"{path} is no whole store ({name} has {found} bytes, it had {size}); {copied}")


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _other_store(path: Path, location: str, identity: str) -> Path:
    """Return the folder of a store that `path` selects from, on this node, and check that it is still the same."""
    other = remote.fetch(location, identity) if remote.is_uri(location) else path / location
    try:
        same = remote.identity((other / DESCRIPTION).read_bytes()) == identity
    except OSError as error:
        raise DataError(
            f"{path} selects from the store {location!r}, which cannot be read ({error.strerror})"
        ) from error
    if not same:
        raise DataError(f"{path} selects from the store {location!r}, which was made anew since; start the study again")
    Store.open(other)
    return other
