"""The files of a store and how they are written: whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

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
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by the number of the process: nodes that share a disk count alike.
    around = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        # A folder in it, because only its owner may enter what mkdtemp makes.
        temporary = around / path.name
        temporary.mkdir()
        yield temporary
    finally:
        shutil.rmtree(around, ignore_errors=True)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of what is made at `path`; its file is gone afterwards.

    Args:
        path: what is made; the lock lies beside it.
        wait: wait for another process that holds it.

    Raises:
        DataError: nothing can be written there, the file system has no locks, or another process holds it and `wait` is off.
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        handle = _lock(lock, path, wait)
        # The process that held it has removed the file by now; then the lock of a file without a name is held.
        try:
            if os.path.samestat(os.fstat(handle.fileno()), lock.stat()):
                break
        except FileNotFoundError:
            pass
        handle.close()
    with handle:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _lock(lock: Path, path: Path, wait: bool) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("a")
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise
        raise DataError(f"{str(path)!r} cannot be written ({error.strerror}); choose another folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        handle.close()
        raise DataError(f"another process is preparing {str(path)!r}; wait for it, or choose another folder") from error
    except OSError as error:
        handle.close()
        raise DataError(
            f"{str(path.parent)!r} is on a file system without locks ({error.strerror}); choose a folder on another disk"
        ) from error
    return handle


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
        rejects: what was rejected: `REJECT_COLUMNS`, and further ones of those that a selection leaves out.
        audio: files of audio: {"file", perhaps with what `file_entry` says of it, or with "location" and "identity" of
            the store that has it}.
    """
    further = dict.fromkeys(name for row in rejects for name in row if name not in REJECT_COLUMNS)
    schema = pa.schema([(name, pa.string()) for name in (*REJECT_COLUMNS, *further)])
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
