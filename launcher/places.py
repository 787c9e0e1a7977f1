"""Where a study lies: in a folder, or on another file system (`--out s3://bucket/study`) with a local copy to work on.

The truth is there; what a launch or a reader needs of it is copied here, below $XDG_CACHE_HOME/lossgrid/studies: all but
checkpoints, models and stores. Local studies are read and written in place, and everything here does nothing for them.
"""

from __future__ import annotations

import fcntl
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from launcher import lease, leftovers
from launcher.copies import cache_folder, work_folder
from launcher.lease import Lease
from launcher.masking import without_passwords
from launcher.mirror import Mirror, is_uri, rank
from launcher.reading import refuse_links, refuse_other_folders
from launcher.results import ResultsError
from launcher.retries import StorageError, repeated

_FOLLOWED_SECONDS = 5.0
_CHECKPOINT = re.compile(r"^trials/[^/]+/checkpoints/")
_TOLD_OF_CHECKPOINTS = ("sealed.json", "trainer_state.json")
_HEAVY = re.compile(r"^(trials/[^/]+/model|stores|audits|replaced|export)/")


@dataclass(frozen=True)
class Place:
    """The folder of a study as one process sees it.

    Attributes:
        folder: to read and write in.
        uri: of what it is a copy; None: it is the study itself.
        index: what the copy remembers.
        lease: holds the study for this process; None: it only reads, or is told what to do by one that holds it.
    """

    folder: Path
    uri: str | None = None
    index: Path | None = None
    lease: Lease | None = None

    @cached_property
    def mirror(self) -> Mirror:
        """The copying of this process."""
        if self.uri is None:
            raise AssertionError("a local study has no copy")
        return Mirror(self.uri, self.folder, self.index)

    def __getstate__(self) -> dict[str, Any]:
        """Another process makes a mirror of its own."""
        return {"folder": self.folder, "uri": self.uri, "index": self.index}

    def fetch(self, under: str = "") -> None:
        """Copy what is new there of what a launch needs, below a folder."""
        if self.uri is not None:
            self.mirror.pull(under, is_light)

    def send(self, *paths: Path) -> None:
        """Copy files of this folder to there; without any, all that changed."""
        if self.uri is None:
            return
        if self.lease is not None:
            self.lease.check()
        names = [self._name(path) for path in paths] or self.mirror.changed(self.mirror.files())
        self.mirror.push(sorted(names, key=rank))

    def wish(self, path: Path) -> None:
        """Make an empty file there, of which no copy is kept; may be called beside other work."""
        if self.uri is not None:
            Mirror(self.uri, self.folder).write(self._name(path), b"")

    def drop(self, path: Path) -> None:
        """Remove a file, here and there."""
        path.unlink(missing_ok=True)
        if self.uri is not None:
            self.mirror.remove([self._name(path)])

    def tidy(self, path: Path) -> None:
        """Remove a file at the end; what the study ended with is told, not that the network is gone."""
        try:
            self.drop(path)
        except StorageError as error:
            print(f"{error}; {self.shown(path)} is left there", file=sys.stderr)

    def drop_wishes(self) -> None:
        """Remove the wishes that trials end early; a worker elsewhere would see them before it could."""
        for wish in self.folder.glob("trials/*/prune") if self.uri is not None else ():
            self.drop(wish)

    def move(self, old: Path, new: Path) -> None:
        """Move a folder of the study, with what is not copied."""
        if self.uri is not None:
            self.mirror.move(self._name(old), self._name(new))
        else:
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)

    def drop_checkpoints_of_finished_trials(self) -> None:
        """Remove what a worker that died behind its last file left there."""
        if self.uri is None:
            return
        for seal in self.folder.glob("trials/*/checkpoints"):
            if (seal.parent / "result.json").is_file():
                self.mirror.remove(self.mirror.listing(self._name(seal)))

    def shown(self, path: Path | None = None) -> str:
        """Name the study, or a file of it, as its user knows it."""
        if self.uri is None:
            return str(path or self.folder)
        shown = self.mirror.shown
        if path is None or not path.is_relative_to(self.folder):
            return str(path or shown)
        address, question, options = shown.partition("?")
        return f"{address.rstrip('/')}/{self._name(path)}{question}{options}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def is_light(name: str) -> bool:
    """Tell whether a launch or a reader needs a file of a study: all but weights, audio and what was set aside."""
    if name.rpartition("/")[2].startswith("."):
        return False
    if _CHECKPOINT.match(name):
        return name.endswith(_TOLD_OF_CHECKPOINTS)
    return not _HEAVY.match(name)


def of(location: str | Path) -> str | Path:
    """Return a location as the folder that it is, or as a URI; file:// is a folder like any other.

    Raises:
        ResultsError: a URI that names no bucket, or file:// of another machine.
    """
    if not is_uri(location):
        return Path(location)
    parts = urlsplit(str(location))
    if parts.scheme != "file":
        if not parts.netloc and parts.scheme not in ("hdfs", "viewfs"):  # these have a name node by default
            raise ResultsError(
                f"{without_passwords(str(location))}: this URI names no bucket; write {parts.scheme or 's3'}://bucket/folder, or give a folder of this machine"
            )
        return str(location)
    if parts.netloc not in ("", "localhost"):
        raise ResultsError(
            f"{without_passwords(str(location))}: files of the machine {parts.hostname} cannot be reached so; give its folder"
        )
    return Path(unquote(parts.path))


@contextmanager
def launched(location: str | Path, *, wanted: bool) -> Iterator[Place]:
    """Have the folder of a study at hand for a launch; on another file system, as its only one.

    Args:
        location: folder or URI.
        wanted: whether trials are to run; a plan only reads.

    Raises:
        ResultsError: another launch runs there, or it cannot be read or written to.
    """
    where = of(location)
    if isinstance(where, Path):
        if wanted:
            refuse_other_folders(where)
        yield Place(where)
        return
    if not wanted:
        with read(where, may_be_empty=True) as place:
            yield place
        return
    with alone(cache_folder(where) / "launch") as cache:
        if cache is None:
            raise ResultsError(
                f"{without_passwords(where)}: another launch of this study runs on this machine; wait for it"
            )
        place = _copy(where, cache)
        only = Lease(Mirror(where, place.folder))
        place = replace(place, lease=only)
        with only.held():
            leftovers.see_to(where, work_folder(where))
            place.fetch()
            place.mirror.pull("stores")
            place.drop_checkpoints_of_finished_trials()
            yield place


@contextmanager
def read(location: str | Path, *, follow: bool = False, may_be_empty: bool = False) -> Iterator[Place]:
    """Have the folder of a study at hand to read.

    Args:
        location: folder or URI.
        follow: go on copying what is new for as long as the block lasts.
        may_be_empty: whether there need not be a study yet.

    Raises:
        ResultsError: it cannot be read.
    """
    where = of(location)
    if isinstance(where, Path):
        if where.is_file() and not may_be_empty:
            raise ResultsError(f"{where} is a file; give the folder of the study, which --out named")
        if where.is_dir() and not (follow or may_be_empty or (where / "study.json").is_file()):
            raise ResultsError(f"{where} holds no study (no study.json); give the folder that --out named")
        refuse_links(where)
        yield Place(where)
        return
    with ExitStack() as stack:
        # Somebody else may be reading on this machine, perhaps for days.
        cache = stack.enter_context(alone(cache_folder(where) / "read"))
        place = _copy(where, cache or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lossgrid-read-"))))
        stand = stack.enter_context(lease.Stand(place.folder / lease.NAME))

        def look() -> None:
            place.fetch()
            stand.set(lease.holder(place.mirror))

        look()
        if not follow and not may_be_empty and not (place.folder / "study.json").is_file():
            raise ResultsError(f"{place.shown()} holds no study (no study.json); give the URI that --out named")
        if follow:
            stack.enter_context(repeated(look, _FOLLOWED_SECONDS))
        yield place


def _copy(uri: str, cache: Path) -> Place:
    """Open a local copy; one without its index, or an index without its copy, begins anew."""
    folder, index = cache.resolve() / "study", cache / "index.json"
    if not folder.is_dir():
        index.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return Place(folder, uri, index)


@contextmanager
def alone(cache: Path) -> Iterator[Path | None]:
    """Let one process at a time work on a copy; None: another one does."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "busy").open("a")
    except OSError as error:
        told = f"{cache}: the copy of the study cannot be written there ({error.strerror})"
        raise ResultsError(f"{told}; name another folder in XDG_CACHE_HOME") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield cache
