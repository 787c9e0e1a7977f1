"""Write one file to another file system whole or not at all, through pyarrow."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from launcher.retries import StorageError, first_line

if TYPE_CHECKING:
    from pyarrow import fs

BLOCK_BYTES = 1 << 23
_OBJECT_STORES = ("s3", "gcs", "abfs")


class Unreadable(StorageError):
    """A file of this machine cannot be read."""

    may_pass = False


def put(system: fs.FileSystem, path: str, content: Iterable[bytes]) -> None:
    """Write a file.

    Args:
        system: where.
        path: of the file there.
        content: blocks of it.

    Raises:
        OSError: it cannot be written.
        Unreadable: `content` cannot be read.
    """
    # Interrupts reach the main thread alone: elsewhere they cannot end a file in its middle.
    write = _object if system.type_name in _OBJECT_STORES else _file
    with ThreadPoolExecutor(1) as pool:
        pool.submit(write, system, path, content).result()


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """Read a file of this machine from its beginning.

    Raises:
        Unreadable: it cannot be; that is no matter of the network.
    """
    try:
        file.seek(0)  # a second try begins anew
        while block := file.read(BLOCK_BYTES):
            yield block
    except OSError as error:
        raise Unreadable(f"{file.name} cannot be read: {first_line(error)}") from error


def _object(system: fs.FileSystem, path: str, content: Iterable[bytes]) -> None:
    """Write an object, which takes its name when its stream is closed; pyarrow has no other way to leave one."""
    rest = iter(content)
    first = list(itertools.islice(rest, 2))  # one block is read to its end before its object begins
    try:
        with system.open_output_stream(path) as sink:
            for block in itertools.chain(first, rest):
                sink.write(block)
    except Unreadable:
        system.delete_file(path)  # not what was there, nor what is here
        raise


def _file(system: fs.FileSystem, path: str, content: Iterable[bytes]) -> None:
    beside = f"{path}.{os.getpid()}.part"
    system.create_dir(path.rpartition("/")[0], recursive=True)
    with system.open_output_stream(beside) as sink:
        for block in content:
            sink.write(block)
    system.move(beside, path)
