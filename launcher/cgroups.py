"""Limits that containers and batch systems put on processes (Linux control groups, both versions)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED_BYTES = 1 << 60  # version 1 writes a number near 2^63 where nothing is limited


@dataclass(frozen=True)
class Limit:
    """The smallest limit of all groups that this process is in.

    Attributes:
        value: cores, or bytes.
        used: bytes in use in that group; 0 for cores.
        at_root: it stands where Ray looks; limits of groups further down Ray does not see.
    """

    value: float
    used: float
    at_root: bool


def cores(root: Path = ROOT, membership: Path = MEMBERSHIP, *, ray_sees: bool = False) -> Limit | None:
    """Return how many cores may be used at a time; None where nothing limits them (with `ray_sees`: that Ray sees)."""
    return _smallest(root, membership, "cpu", _quota, ray_sees)


def memory_bytes(root: Path = ROOT, membership: Path = MEMBERSHIP, *, ray_sees: bool = False) -> Limit | None:
    """Return how much memory may be used; None where nothing limits it (with `ray_sees`: that Ray sees)."""
    return _smallest(root, membership, "memory", _memory, ray_sees)


def _smallest(
    root: Path, membership: Path, controller: str, read: Callable[[Path], tuple[float, float] | None], ray_sees: bool
) -> Limit | None:
    found = []
    for folder, at_root in _groups(root, membership, controller):
        if (at_root or not ray_sees) and (limit := read(folder)) is not None:
            found.append(Limit(*limit, at_root))
    # Where two are equal, the one that Ray sees counts.
    return min(found, key=lambda limit: (limit.value, not limit.at_root), default=None)


def _groups(root: Path, membership: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the group of this process and those around it, up to the root: each limits all within."""
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for _, names, path in (line.split(":", 2) for line in lines):
        if names and controller not in names.split(","):
            continue
        top = root / controller if names else root
        inner = Path(path.lstrip("/"))
        for part in (inner, *inner.parents):
            if ".." not in part.parts and (top / part).is_dir():
                yield top / part, part == Path(".")


def _quota(folder: Path) -> tuple[float, float] | None:
    if (newer := folder / "cpu.max").is_file():
        quota, period = newer.read_text().split()
    elif (older := folder / "cpu.cfs_quota_us").is_file():
        quota, period = older.read_text().strip(), (folder / "cpu.cfs_period_us").read_text().strip()
    else:
        return None
    return None if quota in ("max", "-1") else (int(quota) / int(period), 0.0)


def _memory(folder: Path) -> tuple[float, float] | None:
    for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        if (folder / limit).is_file():
            text = (folder / limit).read_text().strip()
            if text == "max" or int(text) >= _UNLIMITED_BYTES:
                return None
            return int(text), int((folder / usage).read_text())
    return None
