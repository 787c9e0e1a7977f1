"""Where the audio of a recording lies: a path, or a member of a (nested) zip archive, which is read without unpacking.

`/data/x.wav` is a file; `/data/outer.zip!ABA.zip!ABA/wav/a.wav` is a member of an archive within an archive. Nothing is
ever written under a name that an archive gives.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
import struct
import tempfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainables.corpora.audio import UnusableAudio

SEPARATOR = "!"
#: More bytes than any recording has (an hour of 96 kHz stereo float is 2.8 GB; utterances are seconds).
LARGEST_FILE_BYTES = 1 << 30
#: An archive of sound shrinks little; one that grows by more than this when opened is an attack or damaged.
LARGEST_ARCHIVE_BYTES, LARGEST_GROWTH, _GROWTH_COUNTS_FROM_BYTES = 1 << 36, 200, 1 << 24
_DEEPEST, _KEPT_OPEN = 3, 3
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_GONE = (errno.ENOENT, errno.ENOTDIR)
# Other errors (no descriptor left, no memory, disk full or broken) are not the fault of the file: they stop the run.
# EINVAL, and None from zipfile itself: a damaged directory points before the start of the archive.
_FAULT_OF_FILE = (
    *_GONE, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, None,
)  # fmt: skip
# ValueError: a name with a zero byte, or one that claims to be UTF-8 and is not. OverflowError: an offset beyond 2**63.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, IndexError, NotImplementedError, OverflowError, struct.error, ValueError,
)  # fmt: skip


def join(*parts: str | Path) -> str:
    """Write the reference of a file: its path, or an archive, archives within it and the name of the member."""
    return SEPARATOR.join(str(part) for part in parts)


def split(reference: str) -> tuple[str, ...]:
    """Take a reference apart; `!` separates only behind `.zip`, so that it may stand in the name of a file."""
    return tuple(re.split(r"(?<=\.zip)!", reference, flags=re.IGNORECASE))


def read(reference: str) -> bytes:
    """Return the bytes of a file or of a member of an archive.

    Raises:
        UnusableAudio: "missing_file", or "unreadable": a folder, a pipe, a device, no permission, a loop of links, a
            damaged, encrypted or half-unpacked archive, a file or member that is absurdly large or grows absurdly when it
            is unpacked.
        OSError: the machine has no descriptor, memory or disk space left, or its disk fails.
    """
    *archives, name = split(reference)
    with _faults_of(reference):
        if not archives:
            if (num_bytes := _regular(name).st_size) > LARGEST_FILE_BYTES:
                detail = f"{num_bytes:,} bytes; at most {LARGEST_FILE_BYTES:,} are read"
                raise UnusableAudio("unreadable", f"{reference}: {detail}")
            return Path(name).read_bytes()
        archive = _opened(tuple(archives))
        return _unpacked(archive, _checked(archive, name, reference, LARGEST_FILE_BYTES))


def stamp(reference: str) -> str:
    """Return what changes when the file changes: size and time of a file, size and checksum of a member.

    Raises:
        UnusableAudio: as `read`.
    """
    *archives, name = split(reference)
    with _faults_of(reference):
        if not archives:
            status = os.stat(name)
            return f"{status.st_size} {status.st_mtime_ns}"
        member = _member(_opened(tuple(archives)), name, reference)
        return f"{member.file_size} {member.CRC:08x}"


def members(archive: str) -> dict[str, zipfile.ZipInfo]:
    """List the files of an archive, by name, sorted.

    Args:
        archive: reference of the archive, itself perhaps within an archive.

    Raises:
        UnusableAudio: as `read`; also when a name points out of the archive.
    """
    with _faults_of(archive):
        found = {member.filename: member for member in _opened(split(archive)).infolist() if not member.is_dir()}
    if outside := sorted(name for name in found if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name)):
        raise UnusableAudio("unreadable", f"{archive}: a name points out of the archive: {outside[0]!r}")
    return dict(sorted(found.items()))


class _Window(io.RawIOBase):
    """A stretch of an open file, with a position of its own, so that threads and forked processes may share the file."""

    def __init__(self, descriptor: int, start: int, size: int, parent: _Window | None = None) -> None:
        super().__init__()
        self.descriptor, self.start, self.size = descriptor, start, size
        self._parent, self._position = parent, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if origin + offset < 0:
            raise OSError(errno.EINVAL, "position before the start of the file")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        wanted = max(0, min(len(buffer), self.size - self._position))
        data = os.pread(self.descriptor, wanted, self.start + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed and self._parent is None:
            os.close(self.descriptor)
        super().close()


class _Open:
    """Archives that are open in this process, the last used ones; opening a large one takes a while."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.archives: OrderedDict[tuple[str, ...], tuple[zipfile.ZipFile, _Window]] = OrderedDict()

    def get(self, path: tuple[str, ...], state: str) -> tuple[zipfile.ZipFile, _Window]:
        with self.lock:
            key = (*path, state)
            if key not in self.archives:
                window = _file(path[0]) if len(path) == 1 else _inner(*self.get(path[:-1], state), path)
                self.archives[key] = (zipfile.ZipFile(window), window)
                while len(self.archives) > _KEPT_OPEN:
                    self.archives.popitem(last=False)
            self.archives.move_to_end(key)
            return self.archives[key]


_open = _Open()


def _after_fork() -> None:
    """Forget what the parent has open: another of its threads may have held a lock."""
    global _open
    _open = _Open()


os.register_at_fork(after_in_child=_after_fork)


def _opened(path: tuple[str, ...]) -> zipfile.ZipFile:
    if len(path) > _DEEPEST:
        raise zipfile.BadZipFile(f"archives within archives, {len(path)} deep; at most {_DEEPEST} are read")
    status = _regular(path[0])
    return _open.get(path, f"{status.st_size} {status.st_mtime_ns}")[0]


def _regular(path: str) -> os.stat_result:
    """Look at a file before it is opened: opening a pipe waits for a writer, and a device may never end."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UnusableAudio("unreadable", f"{path} is a folder, a pipe or a device, not a file")
    return status


def _file(path: str) -> _Window:
    descriptor = os.open(path, os.O_RDONLY)
    return _Window(descriptor, 0, os.fstat(descriptor).st_size)


def _inner(archive: zipfile.ZipFile, window: _Window, path: tuple[str, ...]) -> _Window:
    """Open an archive within an archive: in place where it is stored, from a temporary file where it is compressed."""
    member = _checked(archive, path[-1], join(*path), LARGEST_ARCHIVE_BYTES)
    if member.compress_type == zipfile.ZIP_STORED:
        header = os.pread(window.descriptor, _LOCAL_HEADER.size, window.start + member.header_offset)
        magic, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        if magic != b"PK\x03\x04":
            raise zipfile.BadZipFile("no header where the directory says that the inner archive starts")
        start = window.start + member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        return _Window(window.descriptor, start, member.file_size, window)
    with tempfile.TemporaryFile() as temporary, archive.open(member) as packed:
        shutil.copyfileobj(packed, temporary, 1 << 20)
        temporary.flush()
        return _Window(os.dup(temporary.fileno()), 0, member.file_size)


def _member(archive: zipfile.ZipFile, name: str, reference: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(name)
    except KeyError as error:
        raise UnusableAudio("missing_file", f"{reference}: the archive has no such member") from error


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpack a member; asking for the claimed size keeps the rest of a bomb that claims too little packed."""
    with archive.open(member) as packed:
        data = packed.read(member.file_size)
        if len(data) != member.file_size or packed.read(1):
            raise zipfile.BadZipFile(f"{member.file_size:,} bytes are claimed and it holds other than that")
        return data


def _checked(archive: zipfile.ZipFile, name: str, reference: str, largest_bytes: int) -> zipfile.ZipInfo:
    """Find a member and look at what it claims to be, before a byte of it is unpacked (no more than it claims is)."""
    member = _member(archive, name, reference)
    if member.flag_bits & 1:
        raise zipfile.BadZipFile("the member is encrypted; unpack the archive with its password first")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(
            f"compression method {member.compress_type}; stored and deflated members are read: unpack the archive first"
        )
    grows = member.file_size > max(_GROWTH_COUNTS_FROM_BYTES, LARGEST_GROWTH * member.compress_size)
    if member.file_size > largest_bytes or grows:
        raise zipfile.BadZipFile(
            f"{member.file_size:,} bytes from {member.compress_size:,} compressed ones; at most {largest_bytes:,} bytes "
            f"and {LARGEST_GROWTH} times the compressed size are read"
        )
    return member


@contextmanager
def _faults_of(reference: str) -> Iterator[None]:
    """Say what is wrong with a file; an error that is not its fault passes."""
    try:
        yield
    except UnusableAudio:
        raise
    except _DAMAGE as error:
        raise UnusableAudio("unreadable", f"{reference}: damaged archive, member or name ({error})") from error
    except OSError as error:
        if error.errno not in _FAULT_OF_FILE:
            raise
        reason = "missing_file" if error.errno in _GONE else "unreadable"
        raise UnusableAudio(reason, f"{reference}: {error.strerror or error}") from error
