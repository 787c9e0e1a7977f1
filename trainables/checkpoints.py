"""Checkpoints of a running trial: one counts only when its seal, written last, is there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
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
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        elif file.is_dir():
            tables.flush_folder(file)
    temporary = path / f".{_SEAL}"
    temporary.write_text(json.dumps({"update": update, "memory": dict(memory)}), encoding="utf-8")
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    temporary.rename(path / _SEAL)
    tables.flush_folder(path)
    tables.flush_folder(path.parent)
    return path


def newest(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest whole checkpoint and what the trainer remembered then; None when there is none."""
    whole = [path for path in _all(folder) if (path / _SEAL).is_file()]
    if not whole:
        return None
    return whole[-1], json.loads((whole[-1] / _SEAL).read_text(encoding="utf-8"))["memory"]


def keep_newest(folder: str | Path, count: int, spare: str | None = None) -> None:
    """Remove all but the newest `count` whole checkpoints (and `spare`), and torn ones older than the newest."""
    whole = [path for path in _all(folder) if (path / _SEAL).is_file()]
    kept = set(whole[-max(1, count) :])
    for path in _all(folder):
        if path not in kept and (spare is None or path != Path(spare)):
            shutil.rmtree(path)


def _all(folder: str | Path) -> list[Path]:
    paths = [path for path in Path(folder).glob(f"{_PREFIX}*") if path.name[len(_PREFIX) :].isdigit()]
    return sorted(paths, key=lambda path: int(path.name[len(_PREFIX) :]))
