"""A local copy of a folder on another file system (s3://, gs://, abfs://, hdfs://), through pyarrow.

An object of an object store is there whole or not at all; on other file systems a file is written beside its place and
moved there. What was copied is remembered by size and time, so that only what changed travels.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from launcher import retries, uploads
from launcher.masking import without_passwords
from launcher.results import write_json
from launcher.retries import StorageError

if TYPE_CHECKING:
    from pyarrow import fs

_AT_A_TIME = 16

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stamp:
    """What tells two versions of a file apart: bytes, and nanoseconds of the clock of its file system."""

    size: int
    time: int


def rank(name: str) -> int:
    """Order files so that what says that others are whole comes last: seals of checkpoints, then ends of trials."""
    file = name.rpartition("/")[2]
    if file in ("result.json", "failure.json", "pruned.json"):
        return 2
    return int(file in ("sealed.json", "store.json", "audit.json", "study.json"))


def is_uri(location: object) -> bool:
    """Tell whether a location names its file system."""
    return "://" in str(location)


class Mirror:
    """Keeps a local folder and a folder on another file system alike, as far as it is told to.

    Args:
        uri: of the other folder.
        folder: the local one.
        index: file that remembers what is alike on both sides; None: that is forgotten with this object.
        is_known: the address is right: somebody was there before, and what fails is tried again from the first request.

    Raises:
        StorageError: pyarrow knows no file system for the URI.
    """

    def __init__(self, uri: str, folder: Path, index: Path | None = None, *, is_known: bool = False) -> None:
        from pyarrow import fs

        self.uri, self.folder, self._index = uri.rstrip("/"), folder, index
        try:
            self._system, base = fs.FileSystem.from_uri(uri)
        except (OSError, ValueError) as error:  # pyarrow's own errors are among them
            raise StorageError(
                f"{without_passwords(uri)!r} cannot be reached ({retries.first_line(error)}); give a folder, or a URI that pyarrow knows "
                "(s3://bucket/folder, gs://bucket/folder ...)"
            ) from None  # pyarrow's error has the whole URI, with its key
        self._base, self._was_met = base.rstrip("/"), is_known
        self._alike: dict[str, tuple[Stamp, Stamp]] = {}  # here, there
        if index is not None and index.is_file():
            self.recall(index)

    def recall(self, index: Path) -> None:
        """Take over what another mirror of this folder found alike."""
        known = json.loads(index.read_text(encoding="utf-8"))
        self._alike = {name: (Stamp(*here), Stamp(*there)) for name, (here, there) in known.items()}

    @property
    def shown(self) -> str:
        """The URI without passwords, for people."""
        return without_passwords(self.uri)

    def listing(self, under: str = "") -> dict[str, Stamp]:
        """List the files below a folder there, by their names relative to the whole."""
        from pyarrow import fs

        selector = fs.FileSelector(self._at(under), recursive=True, allow_not_found=True)
        found = self._again("listed", lambda: self._system.get_file_info(selector))
        start = len(self._base) + 1
        return {info.path[start:]: _stamp(info) for info in found if info.type == fs.FileType.File}

    def stamps(self, names: Iterable[str]) -> dict[str, Stamp]:
        """Look which of some files are there."""
        from pyarrow import fs

        wanted = list(names)
        found = self._again("looked at", lambda: self._system.get_file_info([self._at(name) for name in wanted]))
        return {name: _stamp(info) for name, info in zip(wanted, found) if info.type == fs.FileType.File}

    def pull(self, under: str = "", wants: Callable[[str], bool] = lambda name: True) -> None:
        """Copy what is new there; what is gone there and was alike goes here too. What changed there wins.

        Args:
            under: folder to look at; "": all.
            wants: tells by name what is to be copied.
        """
        there = {name: stamp for name, stamp in self.listing(under).items() if _is_safe(name) and wants(name)}
        new = [name for name, stamp in there.items() if not self._has(name, stamp)]
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for name, here in zip(new, pool.map(lambda name: self._download(name, there[name]), new)):
                if here is not None:
                    self._alike[name] = (here, there[name])
        for name in [name for name in self._alike if _below(name, under) and name not in there and wants(name)]:
            (self.folder / name).unlink(missing_ok=True)
            del self._alike[name]
        self._remember()

    def push(self, names: Iterable[str], source: Path | None = None) -> None:
        """Copy files as they are here now to there, in this order; one that is gone meanwhile is left out.

        Args:
            names: relative to the folder.
            source: a folder with links to these files; None: the folder itself.
        """
        for name in names:
            self._upload(name, (source or self.folder) / name)
        self._remember()

    def changed(self, names: Iterable[str]) -> list[str]:
        """Choose the files that are not there as they are here."""
        return [name for name in names if name not in self._alike or self._alike[name][0] != self._here(name)]

    def files(self, under: str = "") -> list[str]:
        """Name the files below a folder here, save for locks and what is half written."""
        names = [
            (Path(base) / file).relative_to(self.folder).as_posix()
            for base, _, files in os.walk(self.folder / under)  # does not mind what goes while it looks
            for file in files
        ]
        return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))

    def gone(self) -> list[str]:
        """Name the files that were alike and are not here any more."""
        return [name for name in self._alike if not (self.folder / name).is_file()]

    def read(self, name: str) -> bytes | None:
        """Read a small file there; None where there is none."""

        def read() -> bytes | None:
            try:
                with self._system.open_input_stream(self._at(name)) as source:
                    return source.read()
            except FileNotFoundError:
                return None

        return self._again(f"read ({name})", read)

    def write(self, name: str, content: bytes) -> None:
        """Write a small file there."""
        self._again(f"written ({name})", lambda: self._put(name, [content]))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files there."""

        def remove(name: str) -> None:
            try:
                self._system.delete_file(self._at(name))
            except FileNotFoundError:
                pass  # that is what was wanted

        for name in names:
            self._again(f"removed ({name})", lambda name=name: remove(name))
            self._alike.pop(name, None)
        self._remember()

    def move(self, old: str, new: str) -> None:
        """Move a folder, there and here; what says that others are whole goes first: half of it must not count as whole."""
        for name in sorted(self.listing(old), key=rank, reverse=True):
            target = new + name[len(old) :]
            self._again(f"moved ({name})", lambda name=name, target=target: self._move(name, target))
        for name in [name for name in self._alike if _below(name, old)]:
            self._alike[new + name[len(old) :]] = self._alike.pop(name)
        if (self.folder / old).exists():
            (self.folder / new).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / old).rename(self.folder / new)
        self._remember()

    def keep(self, index: Path) -> None:
        """Remember what is alike in a file from now on."""
        self._index = index
        self._remember()

    def _has(self, name: str, stamp: Stamp) -> bool:
        return name in self._alike and self._alike[name][1] == stamp and (self.folder / name).is_file()

    def _here(self, name: str) -> Stamp | None:
        try:
            status = (self.folder / name).stat()
        except FileNotFoundError:
            return None
        return Stamp(status.st_size, status.st_mtime_ns)

    def _download(self, name: str, stamp: Stamp) -> Stamp | None:
        """Copy one file to here, with its time: whoever compares by time does so too. None: it went since it was listed."""
        path = self.folder / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")

        def copy() -> bool:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                source = self._system.open_input_stream(self._at(name))
            except FileNotFoundError:
                return False
            with source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, uploads.BLOCK_BYTES)
            return True

        try:
            if not self._again(f"read ({name})", lambda: retries.with_room(copy, path)):
                return None
            os.utime(temporary, ns=(stamp.time, stamp.time))
            os.replace(temporary, path)
        finally:  # half a file would keep a disk full
            with suppress(OSError):
                temporary.unlink()
        return Stamp(path.stat().st_size, stamp.time)

    def _upload(self, name: str, path: Path) -> None:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                self._again(f"written ({name})", lambda: self._put(name, uploads.blocks(file)))
        except FileNotFoundError:
            return
        if there := self.stamps([name]).get(name):  # somebody else may have removed it
            self._alike[name] = (Stamp(status.st_size, status.st_mtime_ns), there)

    def _put(self, name: str, blocks: Iterable[bytes]) -> None:
        uploads.put(self._system, self._at(name), blocks)

    def _move(self, name: str, target: str) -> None:
        self._system.create_dir(self._at(target).rpartition("/")[0], recursive=True)
        self._system.move(self._at(name), self._at(target))

    def _at(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _again(self, done: str, work: Callable[[], Result]) -> Result:
        """Do something over the network; what fails is tried again for half a minute.

        Raises:
            StorageError: it failed to the end.
        """
        # Who never was there is not waited for: the address may be wrong.
        result = retries.again(work, f"{self.shown} cannot be {done}", patient=self._was_met)
        self._was_met = True
        return result

    def _remember(self) -> None:
        if self._index is not None:
            stamps: Mapping[str, Any] = {
                name: [[stamp.size, stamp.time] for stamp in both] for name, both in self._alike.items()
            }
            write_json(self._index, stamps)


def _stamp(info: fs.FileInfo) -> Stamp:
    return Stamp(info.size, info.mtime_ns or 0)


def _below(name: str, folder: str) -> bool:
    return not folder or name.startswith(f"{folder}/")


def _is_safe(name: str) -> bool:
    """A name from there must stay below the folder here."""
    return ".." not in name.split("/") and not name.startswith("/") and "\\" not in name
