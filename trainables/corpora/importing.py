"""What importers share: checked options, folders in a stable order, a look at a file before it is decoded."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from trainables.corpora.recordings import Found
from trainables.errors import DataError

#: A WAV file without samples is its header: 44 bytes.
_WAV_HEADER_BYTES = 44
_NAMES_SHOWN = 8
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EBADF, errno.ENAMETOOLONG)


def settings(corpus: str, options: Mapping[str, str], allowed: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Fill in the defaults of an importer's options.

    Args:
        corpus: name of the importer, for messages.
        options: what was asked for.
        allowed: option name -> allowed values, the default first; an empty tuple allows any text, default "".

    Raises:
        DataError: an unknown option or value.
    """
    for name, value in options.items():
        if name not in allowed:
            raise DataError(f"{corpus}: unknown option {name!r}; allowed: {', '.join(allowed) or 'none'}")
        if allowed[name] and value not in allowed[name]:
            raise DataError(f"{corpus}: option {name} = {value!r}; allowed: {', '.join(allowed[name])}")
    return {name: options.get(name, values[0] if values else "") for name, values in allowed.items()}


def expanded(path: str | Path) -> Path:
    """Follow `~`.

    Raises:
        DataError: `~NAME`, and nobody here is called so.
    """
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{str(path)!r}: no home folder is known of that name; write the path out") from error


def is_folder(path: Path) -> bool:
    """Return whether a path, or what it leads to, is a folder.

    Raises:
        DataError: nobody may look (`Path.is_dir` raises or says no then, as the version of Python has it).
    """
    return _is(path, stat.S_ISDIR)


def is_file(path: Path) -> bool:
    """Return whether a path, or what it leads to, is a file; raises as `is_folder`."""
    return _is(path, stat.S_ISREG)


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(path.stat().st_mode)
    except ValueError:
        return False  # a name with a zero byte, or with half of a character
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise DataError(
            f"{path} cannot be read: {error.strerror}; check its permissions and those of its folder"
        ) from error


def folders(folder: Path) -> dict[str, Path]:
    """Return the folders in a folder by name, sorted, hidden ones left out.

    Raises:
        DataError: the folder cannot be listed.
    """
    return {name: path for name in _names(folder) if is_folder(path := folder / name)}


def files(folder: Path, suffix: str) -> dict[str, Path]:
    """Return what ends in `suffix` (any case) in a folder by stem, sorted, hidden files left out.

    Of `a.wav` and `a.WAV` the first has the key `a` and the other `a.WAV`: no name of the corpus, and so it is rejected.

    Raises:
        DataError: the folder cannot be listed.
    """
    found: dict[str, Path] = {}
    for name in sorted(_names(folder), key=lambda name: not name.endswith(suffix)):
        if name.lower().endswith(suffix):
            key, ending = os.path.splitext(name)
            while key in found:
                key += ending
            found[key] = folder / name
    return dict(sorted(found.items(), key=lambda item: item[1].name))


def found_instead(folder: Path) -> str:
    """Say what is in a folder in which something else was expected."""
    if not is_folder(folder):
        return f"{folder} is a file" if is_file(folder) else f"{folder} does not exist"
    names = [name + ("/" if is_folder(folder / name) else "") for name in _names(folder)]
    if not names:
        return f"{folder} is empty"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"{folder} has: {', '.join(names[:_NAMES_SHOWN])}{more}"


def problem(path: Path) -> tuple[str, str] | None:
    """Return (reason, detail) when a sound file cannot hold a recording; it is not decoded."""
    try:
        status = path.stat()
    except OSError as error:
        return "missing_file" if error.errno in _NOT_THERE else "unreadable", f"{path}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "missing_file", f"{path} is not a file"
    if status.st_size <= _WAV_HEADER_BYTES:
        return "empty", f"{path} has {status.st_size} bytes: no samples"
    return None


def joined(parts: Iterable[Found], notes: Sequence[str]) -> Found:
    """Put what was found in several places one behind the other; their notes come before `notes`."""
    parts = list(parts)
    return Found(
        tuple(recording for part in parts for recording in part.recordings),
        tuple(reject for part in parts for reject in part.rejects),
        (*(note for part in parts for note in part.notes), *notes),
    )


def _names(folder: Path) -> list[str]:
    try:
        # Copies made on a Mac have a hidden ._name beside each file.
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}; check the path and its permissions") from error
