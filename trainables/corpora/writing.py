"""The files of a store and how they are written: whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from trainables.errors import DataError

TABLE, PLACES, REJECTS, DESCRIPTION = "utterances.arrow", "places.arrow", "rejects.parquet", "store.json"
AUDIO_FOLDER = "audio"
#: How the files of a store are laid out; a store of another layout is prepared anew.
LAYOUT = 2
REJECT_COLUMNS = ("utt_id", "reason", "detail", "split", "group", "speaker")
_NUMBERS = {"samples": pa.int64(), "duration_seconds": pa.float64(), "channels_used": pa.int64()}
_PLACES = pa.schema([("file", pa.int32()), ("place", pa.int64())])
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Give a folder beside `path` that is gone afterwards, unless `put_in_place` has renamed it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def space_needed(path: Path, kept: str = "") -> Iterator[None]:
    """Say what to do when a disk is full.

    Raises:
        DataError: no space is left where `path` lies.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise DataError(
            f"no space is left for {str(path)!r} ({os.strerror(error.errno)}); free some or choose another folder, then "
            f"run the same command again{kept}"
        ) from error


def write_rows(folder: Path, rows: Sequence[Mapping[str, Any]], places: Sequence[tuple[int, int]]) -> None:
    """Write the columns of all utterances, and where the audio of each is.

    Args:
        folder: of the store.
        rows: same keys in each.
        places: (audio file, row within it) of each.
    """
    names = list(rows[0]) if rows else []
    schema = pa.schema([(name, _NUMBERS.get(name, pa.string())) for name in names])
    columns = [pa.array([row[name] for row in rows], type=schema.field(name).type) for name in names]
    _write_table(folder / TABLE, pa.Table.from_arrays(columns, schema=schema))
    pairs = [[file for file, _ in places], [place for _, place in places]]
    arrays = [pa.array(values, type=field.type) for values, field in zip(pairs, _PLACES)]
    _write_table(folder / PLACES, pa.Table.from_arrays(arrays, schema=_PLACES))


def write_description(
    folder: Path,
    description: Mapping[str, Any],
    rejects: Sequence[Mapping[str, str]],
    audio: Sequence[Mapping[str, str]],
) -> None:
    """Write `rejects.parquet`, and `store.json` last: a folder that has it is a store.

    Args:
        folder: of the store; all its other files are there.
        description: what the store says of itself.
        rejects: what was rejected.
        audio: files of audio: {"file", perhaps with what `file_entry` says of it, or with "location" and "identity" of
            the store that has it}.
    """
    schema = pa.schema([(name, pa.string()) for name in REJECT_COLUMNS])
    pyarrow.parquet.write_table(pa.Table.from_pylist([dict(row) for row in rejects], schema=schema), folder / REJECTS)
    own = [
        entry if "sha256" in entry else file_entry(folder, entry["file"]) for entry in audio if "location" not in entry
    ]
    files = [*own, *(file_entry(folder, name) for name in (TABLE, PLACES, REJECTS))]
    content = {"layout": LAYOUT, **description, "audio": [_without_hash(entry) for entry in audio], "files": files}
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    for name in (TABLE, PLACES, REJECTS, DESCRIPTION):
        flush_to_disk(folder / name)


def file_entry(folder: Path, name: str) -> dict[str, Any]:
    """Return name, size and hash of a file of a store."""
    whole, path = hashlib.sha256(), folder / name
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            whole.update(block)
    return {"file": name, "bytes": path.stat().st_size, "sha256": whole.hexdigest()}


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished store; when another process was first with the same content, keep that one."""
    try:
        temporary.rename(path)
    except OSError:
        if not (path / DESCRIPTION).is_file():
            raise


def flush_to_disk(file: Path) -> None:
    """Wait until a file is on disk, not only on its way."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _write_table(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _without_hash(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name in ("file", "location", "identity")}
