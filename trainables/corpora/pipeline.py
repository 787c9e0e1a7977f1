"""From what an importer found to a store: one pass over the audio on all cores, which goes on where it was interrupted.

The recordings are cut into shards. Processes, not threads, decode them (reading sound files holds the interpreter lock),
a few at a time; each writes one Arrow file and forgets it. While a store is made, its files lie in a hidden folder beside
it; shards that are finished there are kept when the same preparation is started again.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trainables.corpora import assembling, contents, importing, references, shards, writing
from trainables.corpora.audio import UnusableAudio
from trainables.corpora.recordings import Found, readable
from trainables.corpora.shards import Shard
from trainables.corpora.store import Store
from trainables.errors import DataError

Progress = Callable[[int, int], None]

# Few enough that an interruption costs seconds; at most so many files, because a trial has all of them open.
_FEWEST_PER_SHARD, _MOST_SHARDS = 256, 128
# Starting a process takes about a second.
_FEWEST_FOR_PROCESSES = 2_000
_PLAN = "plan.txt"


@dataclass(frozen=True)
class Plan:
    """What a store is made from.

    Attributes:
        found: recordings and rejects of an importer.
        about: entries of `store.json`: source, options, filled ...
        split: a named split (`splits.assign`) in place of that of the importer; "": none.
        needs: splits that must not be empty.
    """

    found: Found
    about: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""
    needs: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """Hash of what the store is made from: the audio, names, transcripts, splits."""
        whole = hashlib.sha256(f"{self.audio} {self.split}".encode())
        for one in (*self.found.recordings, *self.found.rejects):
            whole.update(json.dumps(asdict(one), sort_keys=True).encode())
        return whole.hexdigest()[:16]

    @cached_property
    def audio(self) -> str:
        """Hash of what is decoded: name, size and time of each file, version of this code."""
        whole = hashlib.sha256(f"{contents.PREPARATION_VERSION} {writing.LAYOUT}".encode())
        for recording in self.found.recordings:
            stamps = [(reference, _stamp(reference)) for reference in recording.audio]
            whole.update(json.dumps(stamps).encode())
        return whole.hexdigest()[:16]


class _Unusable(DataError):
    """The recordings are refused: nothing that was decoded is of use."""


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(
    path: Path, plan: Plan, *, workers: int | None = None, progress: Progress | None = None, anew: bool = False
) -> Store:
    """Make a store, or return the one that was made from the same.

    Args:
        path: its folder.
        plan: what it is made from.
        workers: processes that decode; None: one per core, and none for so few recordings that starting them takes longer.
        progress: called with (utterances done, utterances in all).
        anew: `path` is the caller's own, left by an earlier call: a store of something else there is removed.

    Raises:
        DataError: `path` holds something else, another process makes it, a disk is full, or a needed split is empty.
    """
    kept = "; what is decoded already is kept"
    path = _resolved(path)
    with writing.space_needed(path, kept), writing.locked(path, wait=False):
        if (made := _made_before(path, plan.key, anew)) is not None:
            return made
        part = _begin(path, plan.audio)
        todo = _shards(part, plan.found)
        if workers is None:
            workers = cores() if len(plan.found.recordings) >= _FEWEST_FOR_PROCESSES else 1
        files = _decode(todo, workers, progress)
        try:
            _finish(part, plan, [shard.name for shard in todo], files)
        except _Unusable:
            shutil.rmtree(part)
            raise
        except DataError as error:  # of the split: with another one what is decoded is of use
            raise DataError(f"{error}; what is decoded is kept in {str(part)!r} for another --split") from error
        _put_in_place(part, path)
    return Store.open(path)


def _resolved(path: Path) -> Path:
    """Follow links, because a finished folder is renamed to what they lead to; refuse what nothing can be renamed to."""
    try:
        path = path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{str(path)!r} cannot be followed ({error}); choose another folder") from error
    if readable(str(path)) != str(path):
        raise DataError(f"{str(path)!r} is a name that is not UTF-8; choose another folder for what is made")
    if not importing.is_file(path / writing.DESCRIPTION):
        if path == Path.cwd().resolve():
            raise DataError(f"{str(path)!r} is the current folder; name a folder in it that does not exist yet")
        if os.path.ismount(path):
            raise DataError(f"{str(path)!r} is where a disk is mounted; name a folder in it that does not exist yet")
    return path


def _put_in_place(part: Path, path: Path) -> None:
    try:
        part.rename(path)
    except OSError as error:
        raise DataError(
            f"the finished store cannot be renamed to {str(path)!r} ({error.strerror}); remove what is there and run the "
            "same command again: what is decoded is kept"
        ) from error
    # Last: without its plan what is decoded would not be found again.
    (path / _PLAN).unlink()


def _made_before(path: Path, key: str, anew: bool) -> Store | None:
    if anew and path.is_dir() and not _is_made_from(path, key):
        shutil.rmtree(path)
    if not path.exists() or (path.is_dir() and _is_empty(path)):
        return None
    if importing.is_file(path / writing.DESCRIPTION):
        store = Store.open(path)
        if store.description.get("made_from") == key:
            return store
        raise DataError(
            f"{str(path)!r} is a store of other data or of files that have changed since (made from "
            f"{store.description.get('source')!r}); choose another --out, or remove it first"
        )
    what = "a folder that is no store" if path.is_dir() else "a file"
    raise DataError(f"{str(path)!r} is {what}; choose a folder that does not exist yet")


def _is_made_from(path: Path, key: str) -> bool:
    try:
        return Store.open(path).description.get("made_from") == key
    except DataError:  # cut short, or of an earlier version
        return False


def _is_empty(path: Path) -> bool:
    try:
        return not any(path.iterdir())
    except PermissionError as error:
        raise DataError(f"{str(path)!r} cannot be listed ({error.strerror}); choose another folder") from error


def _begin(path: Path, audio: str) -> Path:
    """Return the folder in which a store is made; shards of another preparation in it are removed."""
    part = path.with_name(f".{path.name}.part")
    plan = part / _PLAN
    if part.is_dir() and (not plan.is_file() or plan.read_text(encoding="utf-8") != audio):
        shutil.rmtree(part)
    (part / writing.AUDIO_FOLDER).mkdir(parents=True, exist_ok=True)
    plan.write_text(audio, encoding="utf-8")
    for unfinished in part.rglob("*.tmp"):
        unfinished.unlink()
    return part


def _shards(part: Path, found: Found) -> list[Shard]:
    total = len(found.recordings)
    size = max(_FEWEST_PER_SHARD, -(-total // _MOST_SHARDS))
    return [
        Shard(
            part,
            f"{writing.AUDIO_FOLDER}/{number:05}.arrow",
            tuple(recording.audio for recording in found.recordings[start : start + size]),
        )
        for number, start in enumerate(range(0, total, size))
    ]


def _decode(todo: Sequence[Shard], workers: int, progress: Progress | None) -> list[dict[str, Any]]:
    """Decode all shards.

    Returns:
        name, size and hash of the file of each.
    """
    total, done = sum(len(shard.recordings) for shard in todo), 0
    files = []
    for count, file in _written(todo, min(workers, len(todo))):
        done += count
        files.append(file)
        if progress is not None:
            progress(done, total)
    return files


def _written(todo: Sequence[Shard], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    if workers <= 1:
        yield from map(shards.write, todo)
        return
    # Spawned: a fork of a process that has threads (Arrow's, torch's) can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    running: set[Future[tuple[int, dict[str, Any]]]] = set()
    try:
        for shard in todo:
            if len(running) >= 2 * workers:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
            running.add(pool.submit(shards.write, shard))
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that decodes audio ended too soon. If it was killed, memory ran out: run the same command again with "
            "fewer --workers, what is decoded already is kept. If it wrote an error above, look there; a script of your own "
            'needs `if __name__ == "__main__":`'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    """Let Ctrl-C finish the shards that are being decoded; the parent starts no others."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _finish(part: Path, plan: Plan, names: Sequence[str], files: Sequence[Mapping[str, Any]]) -> None:
    assembled = assembling.assemble(plan.found, [shards.read(part / name) for name in names], plan.split)
    reasons = contents.told(assembled.rejects)
    for split in plan.needs:
        if not any(row["split"] == split for row in assembled.rows):
            raise _Unusable(
                f"{plan.about.get('source')}: no usable utterance in the split {split!r} "
                f"(usable: {len(assembled.rows)}, rejected: {reasons or 'none'}); needed: {' and '.join(plan.needs)}"
            )
    if not assembled.rows:
        raise _Unusable(f"{plan.about.get('source')}: no utterance can be used (rejected: {reasons or 'none'})")
    about = {
        "made_from": plan.key, "split": plan.split, "notes": [readable(note) for note in plan.found.notes],
        "channels_left_out": assembled.channels_left_out, "several_channels": assembled.several_channels, **plan.about,
    }  # fmt: skip
    writing.write_rows(part, assembled.rows, assembled.places)
    by_name = {file["file"]: file for file in files}
    description = contents.describe(assembled.rows, assembled.rejects, about)
    writing.write_description(part, description, assembled.rejects, [by_name[name] for name in names])


def _stamp(reference: str) -> str:
    """Return what tells a changed file; what is wrong with a file is found when it is read."""
    try:
        if not reference:
            return ""
        found = references.stamp(reference)
        # A change of permissions leaves size and time as they are.
        return found + ("" if os.access(references.split(reference)[0], os.R_OK) else " not readable")
    except UnusableAudio as unusable:
        return unusable.reason
