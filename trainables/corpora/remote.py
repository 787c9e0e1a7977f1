"""Stores that lie on another file system (file://, s3://, gs://, hdfs://): copied once per node into a cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from trainables.corpora import writing
from trainables.errors import DataError
from trainables.masking import without_passwords

_BLOCK_BYTES = 1 << 22


def is_uri(location: str) -> bool:
    """Return whether a location names its file system."""
    return "://" in location


def fetch(uri: str, wanted: str | None = None) -> Path:
    """Return the folder of this node's copy of a store; the first call copies it, whole or not at all.

    Args:
        uri: of its folder.
        wanted: its identity where that is known: a copy of it is then used without a look at the original.

    Raises:
        DataError: there is no store, it cannot be reached or read, or a file of it is not what the store says.
    """
    if wanted is not None and (copies := sorted(cache_folder().glob(f"*-{wanted}"))):
        return copies[0]
    system, folder = file_system(uri)
    encoded = _read(system, folder, writing.DESCRIPTION, uri)
    try:
        description = json.loads(encoded)
        fingerprint, files = str(description["fingerprint"]), list(description["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise wrong(f"{uri} is not a prepared store ({writing.DESCRIPTION}: {error!r})") from None
    if any("location" in entry for entry in description["audio"]):
        raise wrong(f"{uri} holds no audio of its own, it is a selection from other stores; give those")
    path = cache_folder() / f"{fingerprint}-{identity(encoded)}"
    if not (path / writing.DESCRIPTION).is_file():
        with writing.space_needed(path), writing.locked(path, wait=True):
            # Another process of this node may have copied it meanwhile.
            if (path / writing.DESCRIPTION).is_file():
                return path
            with writing.temporary_folder(path) as temporary:
                for entry in files:
                    _copy(system, folder, entry, temporary, uri)
                (temporary / writing.DESCRIPTION).write_bytes(encoded)
                writing.flush_to_disk(temporary / writing.DESCRIPTION)
                writing.put_in_place(temporary, path)
    return path


def identity(description: bytes) -> str:
    """Hash the content of `store.json`, which holds the hash of every file of the store."""
    return hashlib.sha256(description).hexdigest()[:16]


def cache_folder() -> Path:
    """Return where copies are kept: $XDG_CACHE_HOME/lossgrid/stores, else ~/.cache/lossgrid/stores."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lossgrid" / "stores"


def wrong(text: str) -> DataError:
    """Say what is wrong without the keys of an address: errors go into tables, and pyarrow's quote addresses (raise it from None)."""
    return DataError(without_passwords(text))


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says: those of file systems go on with a stack."""
    return str(error).partition("\n")[0]


def file_system(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI, and the folder in it.

    Raises:
        DataError: pyarrow knows none for it.
    """
    try:
        system, folder = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise wrong(
            f"{uri!r} cannot be reached ({first_line(error)}); give a folder, or a URI that pyarrow knows"
        ) from None
    return system, folder.rstrip("/")


def _read(system: fs.FileSystem, folder: str, name: str, uri: str) -> bytes:
    try:
        with system.open_input_stream(f"{folder}/{name}") as source:
            return source.read()
    except (pa.ArrowException, OSError) as error:
        raise wrong(f"{uri} is not a prepared store, or cannot be read ({first_line(error)})") from None


def _copy(system: fs.FileSystem, folder: str, entry: Mapping[str, Any], target: Path, uri: str) -> None:
    """Copy one file and check that it is what the store says."""
    name = str(entry["file"])
    path = target / name
    if not path.resolve().is_relative_to(target.resolve()):
        raise wrong(f"{uri} names a file outside itself: {name!r}; it is not to be trusted")
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    try:
        source = system.open_input_stream(f"{folder}/{name}")
    except (pa.ArrowException, OSError) as error:
        raise wrong(f"{uri}: {name} cannot be read ({first_line(error)})") from None
    with source, path.open("wb") as file:
        while block := source.read(_BLOCK_BYTES):
            whole.update(block)
            file.write(block)
    if whole.hexdigest() != entry["sha256"]:
        raise wrong(f"{uri}: {name} is not what {writing.DESCRIPTION} says; copy or prepare the store again")
    writing.flush_to_disk(path)
