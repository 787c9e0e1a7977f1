"""The folder of a study, its disk, and the checkout that runs it, as `doctor` looks at them."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from launcher import checkout, live, results
from launcher.disk_estimate import bytes_in, nearest
from launcher.findings import FAULT, OK, WARNING, Finding
from launcher.places import Place
from launcher.quantities import size

_LITTLE_BYTES, _NONE_BYTES = 10e9, 100e6
# Weights and the two moments of AdamW, 4 bytes each: 94 million parameters (base), 317 million (large).
_BASE_BYTES, _LARGE_BYTES = 94e6 * 12, 317e6 * 12
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


def storage(place: Place) -> list[Finding]:
    """Write, read and remove an object where the study lies."""
    name, content = f".doctor-{uuid.uuid4().hex}", b"lossgrid"
    try:
        place.mirror.write(name, content)
        found = place.mirror.read(name)
        place.mirror.remove([name])
    except results.ResultsError as error:
        return [Finding(FAULT, "storage", str(error), "get permission to write, list, read and delete there")]
    if found != content:
        text = f"{place.shown()} gave back {found!r} for what was written"
        return [Finding(FAULT, "storage", text, "name another place")]
    return [Finding(OK, "storage", f"{place.shown()} can be written, read and cleared")]


def _room(folder: Path, place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    mounts = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    kind = max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"
    text = f"{size(free)} are free for {folder} ({kind}): {_in_words(free)}"
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
    content, holder = results.read_study(folder), live.holder(folder / live.LOCK)
    statuses = Counter(_status(folder, trial, holder) for trial in content["trials"])
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
    text = f"{content['study']}: {len(content['trials'])} trials: {counts}"
    found = [Finding(OK, "study", f"{text}; {_in_words_who(holder)}")]
    if statuses["failed"]:
        advice = f"python launch.py status {folder} tells the errors; --retry-failed runs them again"
        found.append(Finding(WARNING, "study", f"{statuses['failed']} trials failed", advice))
    if statuses["unreadable"]:
        advice = "move the folders of these trials away; the study runs them again"
        found.append(Finding(FAULT, "study", f"files of {statuses['unreadable']} trials cannot be read", advice))
    return [*found, *_left_over(folder, running=holder.held is not False)]


def _status(folder: Path, trial: dict[str, Any], holder: live.Holder) -> str:
    try:
        return live.outcome(results.trial_folder(folder, trial["trial_id"]), holder)["status"]
    except (OSError, ValueError):
        return "unreadable"


def _in_words_who(holder: live.Holder) -> str:
    if holder.held is None:
        return holder.words
    return f"in use by {holder.words or 'another launch'}" if holder.held else "nobody runs it now"


def _left_over(folder: Path, *, running: bool) -> Iterator[Finding]:
    sizes = [bytes_in(place) for place in folder.glob("trials/*/checkpoints") if any(place.glob("checkpoint-*"))]
    if sizes:
        text = f"checkpoints of {len(sizes)} trials that are not done take {size(sum(sizes))}"
        yield Finding(OK, "study", f"{text}; they go on from these, which are removed when they are done")
    # A folder of this name holds audio that is decoded already: the same command uses it.
    torn = [path for path in folder.rglob(".*.part") if path.is_file()]
    if torn and not running:
        text = f"{len(torn)} files were left half written ({torn[0].relative_to(folder)}); nothing reads them"
        yield Finding(WARNING, "study", text, f"find {folder} -type f -name '.*.part' lists them; they can be removed")


def git(folder: Path = _CODE) -> list[Finding]:
    """Look at the checkout that this program runs from, as a launch does: its commit, and what differs from it."""
    found = checkout.state(folder)
    if found.problem is not None:
        advice = "install git, make a first commit, or let git trust the folder: results cannot tell their code"
        return [Finding(WARNING, "git", found.problem, advice)]
    if found.commit is None:
        return [Finding(OK, "git", "not run from a git checkout: results carry the version of the package alone")]
    lines = (found.patch or b"").splitlines()
    changed = sum(line.startswith((b"diff --git ", b"# untracked, listed only: ")) for line in lines)
    text = f"{changed} files differ: results carry a patch" if changed else "unchanged"
    return [Finding(OK, "git", f"commit {found.commit[:12]}, {text}")]
