"""Checkpoints of a running trial: one counts only when its seal, written last, is there and tells of the files beside it.

The seal, `sealed.json`: {"update", "memory": what the trainer remembers, "files": the size of each file in bytes by its name}.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainables import tables

_PREFIX, _SEAL = "checkpoint-", "sealed.json"


def seal(folder: str | Path, update: int, memory: Mapping[str, Any]) -> Path:
    """Declare the checkpoint of an update whole, once all its files are on the disk.

    Args:
        folder: where the checkpoints of the trial are.
        update: optimizer steps done.
        memory: what the trainer remembers beside weights and optimizer, JSON-able.
    """
    path = Path(folder) / f"{_PREFIX}{update}"
    flush(path)
    files = {str(file.relative_to(path)): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    temporary = path / f".{_SEAL}"
    content = {"update": update, "memory": dict(memory), "files": files}
    temporary.write_text(json.dumps(content), encoding="utf-8")
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    temporary.rename(path / _SEAL)
    tables.flush_folder(path)
    tables.flush_folder(path.parent)
    return path


@contextmanager
def all_or_nothing(folder: str | Path, update: int, *, mine: bool) -> Iterator[None]:
    """Remove what was written of a checkpoint that could not be finished: a full disk needs the room to note why it ended.

    Args:
        folder: where the checkpoints of the trial are.
        update: of the checkpoint.
        mine: whether this is the worker that removes; the others leave it alone.
    """
    path = Path(folder) / f"{_PREFIX}{update}"
    try:
        yield
    except Exception:
        if mine and not is_whole(path):
            shutil.rmtree(path, ignore_errors=True)  # the error that is raised tells more than one of this
        raise


def flush(folder: Path) -> None:
    """Put a folder with all that is in it on the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        elif file.is_dir():
            tables.flush_folder(file)
    tables.flush_folder(folder)


def newest(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest whole checkpoint and what the trainer remembered then; None when there is none."""
    for path in reversed(_all(folder)):
        if seal := _seal_of(path):
            return path, seal["memory"]
    return None


def is_whole(path: Path) -> bool:
    """Tell whether a checkpoint can be gone on from."""
    return _seal_of(path) is not None


def drop_torn(folder: str | Path) -> None:
    """Remove checkpoints that are not whole: nobody goes on from them, and they take room."""
    for path in _all(folder):
        if not is_whole(path):
            shutil.rmtree(path)


def keep_newest(folder: str | Path, count: int, spare: str | None = None) -> None:
    """Remove all but the newest `count` whole checkpoints (and `spare`)."""
    whole = [path for path in _all(folder) if is_whole(path)]
    kept = set(whole[-max(1, count) :])
    for path in _all(folder):
        if path not in kept and (spare is None or path != Path(spare)):
            shutil.rmtree(path)


def _seal_of(path: Path) -> dict[str, Any] | None:
    """Read the seal of a checkpoint; None where there is none, or where a file beside it is not what it was."""
    try:
        seal = json.loads((path / _SEAL).read_text(encoding="utf-8"))
        # A disk that lost power may hold names without their content, also of what was flushed.
        sizes = {name: (path / name).stat().st_size for name in seal.get("files", ())}
    except (FileNotFoundError, ValueError):
        return None
    return seal if sizes == seal.get("files", {}) else None


def _all(folder: str | Path) -> list[Path]:
    named = Path(folder).glob(f"{_PREFIX}*")
    paths = [path for path in named if path.name[len(_PREFIX) :].isdecimal() and path.is_dir()]
    return sorted(paths, key=lambda path: int(path.name[len(_PREFIX) :]))
