"""The folder of a study, its disk, and the checkout that runs it, as `doctor` looks at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from launcher import results
from launcher.doctor_machine import nearest
from launcher.findings import FAULT, OK, WARNING, Finding, gigabytes

_LITTLE_BYTES, _NONE_BYTES = 10e9, 100e6
# Weights and the two moments of AdamW, 4 bytes each: 94 million parameters (base), 317 million (large).
_BASE_BYTES, _LARGE_BYTES = 94e6 * 12, 317e6 * 12
_SECONDS_FOR_GIT = 10
_CODE = Path(__file__).resolve().parent.parent


def disk(folder: Path) -> list[Finding]:
    """Look at the disk of a study's folder: room, and whether it does what writing whole files needs."""
    place = nearest(folder)
    if not place.is_dir():
        text = f"{place} is a file, so {folder} cannot be made"
        return [Finding(FAULT, "disk", text, "name another folder for the study")]
    try:
        with tempfile.TemporaryDirectory(prefix=".lossgrid-doctor-", dir=place) as probe:
            return [_room(folder, place), *_operations(Path(probe))]
    except OSError as error:
        text = f"{place} cannot be written to ({error.strerror})"
        return [Finding(FAULT, "disk", text, "name another folder for the study, or get permission")]


def _room(folder: Path, place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    mounts = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    kind = max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"
    text = f"{gigabytes(free)} are free for {folder} ({kind}): {_in_words(free)}"
    if free < _NONE_BYTES:
        return Finding(FAULT, "disk", text, "free some, or name a folder on another disk")
    if free < _LITTLE_BYTES:
        return Finding(WARNING, "disk", text, "free some, or name a folder on another disk")
    if kind == "tmpfs":
        return Finding(WARNING, "disk", f"{text}; it is memory, lost when the machine restarts", "name another folder")
    return Finding(OK, "disk", text)


def _in_words(free: float) -> str:
    base, large = int(free / _BASE_BYTES), int(free / _LARGE_BYTES)
    sizes = f"{base:,} checkpoints the size of wav2vec2-base or {large:,} of wav2vec2-large"
    return (
        f"room for {sizes} (a running trial keeps one or two)" if base else "no room for a checkpoint of wav2vec2-base"
    )


def _operations(probe: Path) -> Iterator[Finding]:
    """Do what results are written with: write, flush, rename over, lock."""
    before, after = probe / "part", probe / "whole"
    after.write_text("old")
    try:
        with before.open("w") as file:
            file.write("new")
            file.flush()
            os.fsync(file.fileno())
        os.replace(before, after)
        whole = after.read_text() == "new"
    except OSError as error:
        text = f"a file cannot be flushed and renamed there ({error.strerror})"
        yield Finding(FAULT, "disk", text, "name a folder on a local disk or on NFS 4")
        return
    if not whole:
        text = "a renamed file does not replace the one before: results would be torn"
        yield Finding(FAULT, "disk", text, "name a folder on a local disk or on NFS 4")
    yield _lock(probe / "lock")
    if (probe / "WHOLE").exists():
        text = "upper and lower case are one in names of files there; ids of trials do not depend on it"
        yield Finding(OK, "disk", text)


def _lock(path: Path) -> Finding:
    import fcntl

    with path.open("w") as one, path.open("w") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            text = f"files cannot be locked there ({error.strerror}): a study does not start"
            return Finding(FAULT, "disk", text, "mount it with locks (NFS: without nolock), or name another folder")
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return Finding(OK, "disk", "files are flushed, replaced whole and locked there")
    text = "locks hold nobody off there: two launches on one folder would not notice each other"
    return Finding(WARNING, "disk", text, "start one launch at a time, or name a folder on another disk")


def study(folder: Path) -> list[Finding]:
    """Look at the study in a folder: who runs it, what became of its trials, what was left half written."""
    if not (folder / "study.json").is_file():
        return [Finding(OK, "study", f"{folder} holds no study yet")]
    content = results.read_study(folder)
    statuses = Counter(_status(folder, trial) for trial in content["trials"])
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
    holder = _holder(folder)
    text = f"{content['study']}: {len(content['trials'])} trials: {counts}"
    found = [Finding(OK, "study", f"{text}; {f'in use by {holder}' if holder else 'nobody runs it now'}")]
    if statuses["failed"]:
        advice = f"python launch.py status {folder} tells the errors; --retry-failed runs them again"
        found.append(Finding(WARNING, "study", f"{statuses['failed']} trials failed", advice))
    if statuses["unreadable"]:
        advice = "move the folders of these trials away; the study runs them again"
        found.append(Finding(FAULT, "study", f"files of {statuses['unreadable']} trials cannot be read", advice))
    return [*found, *_left_over(folder, running=holder is not None)]


def _status(folder: Path, trial: dict[str, Any]) -> str:
    try:
        return results.outcome(results.trial_folder(folder, trial["trial_id"]))["status"]
    except (OSError, ValueError):
        return "unreadable"


def _holder(folder: Path) -> str | None:
    """Return who holds the lock of a study; a shared lock is asked for, and given back at once."""
    import fcntl

    path = folder / ".lock"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read().strip() or "another launch"
    return None


def _left_over(folder: Path, *, running: bool) -> Iterator[Finding]:
    checkpoints = [path for path in folder.glob("trials/*/checkpoints/checkpoint-*/**/*") if path.is_file()]
    if checkpoints:
        size = sum(path.stat().st_size for path in checkpoints)
        trials = len({path.relative_to(folder).parts[1] for path in checkpoints})
        text = f"checkpoints of {trials} trials that are not done take {gigabytes(size)}"
        yield Finding(OK, "study", f"{text}; they go on from these, which are removed when they are done")
    torn = [path for path in folder.rglob("*.part") if path.name.startswith(".")]
    if torn and not running:
        text = f"{len(torn)} files were left half written ({torn[0].relative_to(folder)}); nothing reads them"
        yield Finding(WARNING, "study", text, f"find {folder} -name '.*.part' lists them; they can be removed")


def git(folder: Path = _CODE) -> list[Finding]:
    """Look at the checkout that this program runs from: its commit, and what differs from it."""
    if not (folder / ".git").exists():
        return [Finding(OK, "git", "not run from a git checkout: results carry the version of the package alone")]
    if shutil.which("git") is None:
        text = f"{folder} is a checkout and there is no git: results cannot tell their commit"
        return [Finding(WARNING, "git", text, "install git")]
    done = subprocess.run(
        ["git", "-C", str(folder), "status", "--porcelain", "--branch"], capture_output=True, text=True,
        timeout=_SECONDS_FOR_GIT,
    )  # fmt: skip
    sha = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True,
        timeout=_SECONDS_FOR_GIT,
    )  # fmt: skip
    if done.returncode != 0 or sha.returncode != 0:
        error = " ".join((done.stderr or sha.stderr).split())
        advice = f"git config --global --add safe.directory {folder}, or a first commit"
        return [Finding(WARNING, "git", f"git refuses: {error}", advice)]
    changed = len(done.stdout.splitlines()) - 1
    text = f"commit {sha.stdout.strip()}"
    return [
        Finding(
            OK, "git", f"{text}, {changed} files differ: results carry a patch" if changed else f"{text}, unchanged"
        )
    ]
