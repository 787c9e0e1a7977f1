"""Where the checkpoint lies that a model starts from, and what is in it: a folder, a copy of one on another file system, or a name on the hub."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from trainables.corpora import remote, writing

_BLOCK_BYTES = 1 << 22
# What decides how a checkpoint hears and spells, beside its weights.
_SETTINGS = ("added_tokens.json", "config.json", "preprocessor_config.json", "processor_config.json", "vocab.json")
_WEIGHTS = (".safetensors", ".safetensors.index.json")
_NEEDED = (*_SETTINGS, "tokenizer_config.json", "special_tokens_map.json")


def folder_of(name: str) -> Path | None:
    """Return the folder of a checkpoint on this machine.

    Args:
        name: a folder; the URI of one (s3://, gs:// ...), which is copied once per node; or a name on the hub.

    Returns:
        None where it is no folder.

    Raises:
        DataError: nothing is at the URI, or it cannot be reached.
    """
    if remote.is_uri(name):
        return _copied(name)
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else None


def hash_of(name: str) -> str | None:
    """Hash the weights and settings of a checkpoint, so that a trial is known by what it starts from.

    Returns:
        None where `name` is no folder (a name on the hub).
    """
    folder = folder_of(name)
    if folder is None:
        return None
    whole = hashlib.sha256()
    settings = (folder / name for name in _SETTINGS)
    for path in (*sorted(folder.glob("*.safetensors")), *(path for path in settings if path.is_file())):
        whole.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                whole.update(block)
    return whole.hexdigest()


def check(name: str | None, known: str | None) -> None:
    """Check that a checkpoint still is what the launch named its trials by.

    Args:
        name: as `checkpoint_of` gives it.
        known: its hash then; None: it was no folder.

    Raises:
        DataError: it is another one now.
    """
    if name is not None and known is not None and hash_of(name) != known:
        raise remote.wrong(
            f"the checkpoint {name!r} is not what it was when the study was launched, or not the same on this "
            "node: its trials are named by what was in it then; put that back, or give the command again for what is there now"
        )


def cache_folder() -> Path:
    """Return where copies are kept: $XDG_CACHE_HOME/lossgrid/models, else ~/.cache/lossgrid/models."""
    return remote.cache_folder().with_name("models")


def _copied(uri: str) -> Path:
    """Return this node's copy of the checkpoint at a URI as it is now; what is copied once is whole."""
    system, base = remote.file_system(uri)
    try:
        listed = system.get_file_info(fs.FileSelector(base, allow_not_found=True))
    except (pa.ArrowException, OSError) as error:
        raise remote.wrong(f"the checkpoint {uri!r} cannot be reached ({remote.first_line(error)})") from None
    found = sorted((info.path, info.size, info.mtime_ns or 0) for info in listed if _is_needed(info))
    if not found:
        raise remote.wrong(
            f"there is no checkpoint at {uri!r}: no weights in safetensors and no config.json; of a trial give "
            "the folder model, as in s3://bucket/studies/first/trials/ID/model"
        )
    key = hashlib.sha256(json.dumps([base, found]).encode()).hexdigest()[:16]
    path = cache_folder() / f"{PurePosixPath(base).name}-{key}"
    if path.is_dir():
        return path
    with writing.space_needed(path), writing.locked(path, wait=True):
        if path.is_dir():  # another process of this node has copied it meanwhile
            return path
        with writing.temporary_folder(path) as temporary:
            for name, size, _ in found:
                _copy(system, name, size, temporary / PurePosixPath(name).name, uri)
            temporary.rename(path)
    return path


def _is_needed(info: fs.FileInfo) -> bool:
    return info.type == fs.FileType.File and (info.base_name.endswith(_WEIGHTS) or info.base_name in _NEEDED)


def _copy(system: fs.FileSystem, name: str, size: int, target: Path, uri: str) -> None:
    try:
        source = system.open_input_stream(name)
    except (pa.ArrowException, OSError) as error:
        raise remote.wrong(f"{uri}: {name} cannot be read ({remote.first_line(error)})") from None
    with source, target.open("wb") as file:
        while block := source.read(_BLOCK_BYTES):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if target.stat().st_size != size:
        raise remote.wrong(f"{uri}: {name} changed while it was copied; give the command again")
