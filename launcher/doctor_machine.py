"""Cores, memory and the limits of this machine, as `doctor` looks at them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import psutil

from launcher import cgroups, cluster, machine
from launcher.disk_estimate import nearest
from launcher.findings import FAULT, OK, WARNING, Finding
from launcher.quantities import size

_TIGHT_BYTES = 3e9  # one trial with Ray's processes beside it (launcher.cluster), and the command itself
_SHARED_BYTES = 256e6
_OPEN_FILES = 4096  # below this Ray itself warns
_FULL = 0.95  # of a disk: Ray makes no new objects there
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""The longest name that the system lets a socket have."""
_LONGEST_SOCKET = "dash_TaskEventsHead"  # of those that Ray 2.60 makes in the folder of a session


def cores(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> list[Finding]:
    """Compare the cores that may be used with those that Ray counts."""
    there, counted = os.cpu_count() or 1, machine.counted_cores(root, membership)
    usable = min(there, machine.usable_cores(root, membership))
    text = f"{there} cores"
    if usable < there:
        text += f", of which this process may use {usable:g}"
    if counted > max(1, usable):
        advice = f"--max-concurrent {max(1, int(usable))}, or ask for as many cores as Ray counts"
        return [Finding(WARNING, "cores", f"{text}; Ray does not see that limit and counts {counted}", advice)]
    return [Finding(OK, "cores", text)]


def memory(
    root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP, tight: float = _TIGHT_BYTES
) -> list[Finding]:
    """Look at the memory that is left, within what this process may use."""
    installed = psutil.virtual_memory()
    limit = cgroups.memory_bytes(root, membership)
    total, free, counted = installed.total, installed.available, installed.total
    if limit is not None and limit.value < total:
        total, free = int(limit.value), min(free, int(limit.value - limit.used))
        counted = total if limit.at_root else counted
    here = cluster.Cluster(
        None, 1, cpus=1e6, gpus=0, memory_bytes=machine.SHARE_OF_MEMORY * free, has_driver_resource=True
    )
    trials = {
        backend: cluster.size(here, 10**6, workers=1, backend=backend, max_concurrent=None).max_concurrent
        for backend in ("train", "tune")
    }
    text = f"{size(free)} of {size(total)} are free"
    if free < tight:
        advice = f"end what fills it; a trial wants {size(tight)}, with --backend tune less"
        return [Finding(WARNING, "memory", f"{text}: too little for one trial at ease", advice)]
    found = [
        Finding(OK, "memory", f"{text}: room for {trials['train']} trials at a time (--backend tune: {trials['tune']})")
    ]
    if counted > total:
        advice = f"--max-concurrent {trials['train']}: what uses more is killed"
        found.append(
            Finding(
                WARNING,
                "memory",
                f"Ray does not see the limit of {size(total)}, counts {size(counted)}",
                advice,
            )
        )
    return found


def shared_memory(folder: Path = Path("/dev/shm"), wanted: float = _SHARED_BYTES) -> list[Finding]:
    """Look at the memory that processes share: Ray's object store lies there."""
    if not folder.is_dir():
        return [Finding(OK, "shared memory", f"no {folder} on this system: Ray uses its folder for temporary files")]
    disk = shutil.disk_usage(folder)
    text = f"{size(disk.free)} of {size(disk.total)} are free in {folder}"
    if disk.free < wanted:
        return [
            Finding(WARNING, "shared memory", f"{text}; Ray takes the disk instead", "docker run --shm-size=1g ...")
        ]
    return [Finding(OK, "shared memory", text)]


def open_files(wanted: int = _OPEN_FILES) -> list[Finding]:
    """Look at the number of files that a process may open; Ray raises the soft limit to the hard one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reached = 65_536 if hard == resource.RLIM_INFINITY else max(soft, min(hard, 65_536))
    if reached < wanted:
        text = f"a process may open {reached} files; Ray asks for {wanted} or more"
        return [Finding(WARNING, "open files", text, "ulimit -Hn 65536 (as root: /etc/security/limits.conf)")]
    return [Finding(OK, "open files", f"a process may open {reached}")]


def temporary(allowed: int = SOCKET_BYTES) -> list[Finding]:
    """Look at where Ray keeps its sessions: room, permission, and whether its sockets' names fit."""
    place = ray_folder()
    session = f"session_{datetime.now().strftime('%Y-%m-%d_%H-%M-%S_%f')}_{10**6}"
    longest = len(os.fsencode(place / session / "sockets" / _LONGEST_SOCKET))
    if longest > allowed:
        text = f"{place}: names of sockets in it take {longest} bytes, the system allows {allowed}"
        return [Finding(FAULT, "temporary files", text, "export RAY_TMPDIR=/tmp, or another short path")]
    there = nearest(place)
    try:
        with tempfile.TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        advice = "export RAY_TMPDIR=... to a folder of your own"
        return [Finding(FAULT, "temporary files", f"Ray cannot write to {there} ({error.strerror})", advice)]
    disk = shutil.disk_usage(there)
    text = f"{size(disk.free)} of {size(disk.total)} are free for Ray in {place}"
    if disk.used > _FULL * disk.total:
        advice = "free some (old sessions lie there), or export RAY_TMPDIR=... to another disk"
        return [Finding(WARNING, "temporary files", f"{text}; on a disk so full Ray makes no large objects", advice)]
    return [Finding(OK, "temporary files", text)]


def threads() -> list[Finding]:
    """Look at OMP_NUM_THREADS, which Ray hands on to its workers as it stands."""
    value = os.environ.get("OMP_NUM_THREADS")
    if value in (None, "", "1"):
        return [Finding(OK, "threads", f"OMP_NUM_THREADS is {value or 'not set'}: one thread per CPU worker")]
    text = f"OMP_NUM_THREADS = {value} goes to every worker: outside torch {value} threads each, on one core"
    return [Finding(WARNING, "threads", text, "unset OMP_NUM_THREADS, or set it to 1")]


def home() -> list[Finding]:
    """Look at the home folder, where tokens of Ray and pretrained models are kept."""
    place = Path.home()
    try:
        with tempfile.TemporaryDirectory(prefix=".lossgrid-", dir=place):
            return [Finding(OK, "home", f"{place} can be written to")]
    except OSError as error:
        text = (
            f"{place} cannot be written to ({error.strerror}): no place for pretrained models, nor for a token of Ray"
        )
        return [Finding(WARNING, "home", text, "export HOME=..., or HF_HOME=... and RAY_AUTH_TOKEN_PATH=...")]


def ray_folder() -> Path:
    """Return where Ray keeps its sessions."""
    linux = sys.platform.startswith("linux")
    return Path(os.environ.get("RAY_TMPDIR") or (linux and os.environ.get("TMPDIR")) or "/tmp") / "ray"
