"""Read the files of a study that somebody else may have sent: only data, only from its folder, or one clear message.

Nothing is unpickled or evaluated: JSON, and Parquet of plain types.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from launcher import storage

_TRIAL_ID = re.compile(r"(?!\.)[A-Za-z0-9=._-]{1,200}")
_NUMBERS = frozenset(
    "substitutions deletions insertions hits char_errors chars loss labels frames duration_seconds grad_norm update".split()
)
_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
_ADVICE = "ask for it anew, or run the study again"
_LONGEST = 300  # characters of an error that tells of somebody else's file


class ResultsError(ValueError):
    """A folder is no study, or cannot be read or written to."""

    is_request_error = True


class Unwritable(ResultsError):
    """A disk is full, read-only or gone: that is no wrong request, and the same command goes on once it is mended."""

    exit_code = 130


def unwritable(path: Path, error: OSError) -> ResultsError:
    """Make the error that says that a file cannot be written."""
    kind = Unwritable if error.errno in storage.ERRORS else ResultsError
    return kind(f"cannot write {path} ({error.strerror}); free or change the folder given by --out")


def json_file(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON object.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__} where an object is needed")
    return content


def plan(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return study.json as it is, once it is known to be one: ids of trials become names of folders.

    Raises:
        ResultsError: it lacks something, or an id is no name of a trial.
    """
    kinds = {"study": str, "axes": dict, "groups": list, "data": dict, "trials": list}
    of_trial = {"trial_id": str, "variant": str, "seed": int, "axes": dict, "configuration": dict}
    problem = _misfit(content, kinds)
    for number, trial in enumerate(content["trials"] if not problem else ()):
        found = _misfit(trial, of_trial) if isinstance(trial, dict) else "is no object"
        if not found and not _TRIAL_ID.fullmatch(trial["trial_id"]):
            found = f"has the id {trial['trial_id']!r}; letters, digits and = . _ - are allowed"
        problem = problem or (found and f"trial {number + 1} {found}")
    groups = content["groups"] if not problem else ()
    if not problem and not all(isinstance(name, str) for name in groups):
        problem = "groups holds something that is no name"
    ids = [trial["trial_id"] for trial in content["trials"]] if not problem else []
    if not problem and len(set(ids)) < len(ids):
        problem = "two trials have the same id"
    if problem:
        raise ResultsError(f"{path} is no study.json of this program: {problem}; ask for the folder anew")
    return content


def shaped(content: dict[str, Any], kinds: dict[str, type], path: Path) -> dict[str, Any]:
    """Return what a file of a trial holds, once what it holds of some names is known to be of the right kind.

    Args:
        content: of the file; it need not have the names.
        kinds: name -> dict or int, or list, which is one of objects.
        path: the file.

    Raises:
        ResultsError: something is of another kind.
    """
    there = {name: kind for name, kind in kinds.items() if name in content}
    problem = _misfit(content, there)
    for name, kind in there.items():
        if not problem and kind is list and not all(isinstance(entry, dict) for entry in content[name]):
            problem = f"has {name!r} with something that is no object"
    if problem:
        raise ResultsError(f"{path} {problem}; {_ADVICE}")
    return content


def _misfit(content: dict[str, Any], kinds: dict[str, type]) -> str:
    for name, kind in kinds.items():
        if name not in content:
            return f"has no {name!r}"
        if not isinstance(content[name], kind):
            return f"has {name!r} as {type(content[name]).__name__}, not {kind.__name__}"
    return ""


def refuse_links(folder: Path) -> None:
    """Refuse the folder of a study in which a name leads out of it, or is no file: others could have it read anything.

    The folder itself may be a link, and so may its `stores`, of which only sound is read, when it is asked for.

    Raises:
        ResultsError: there is such a name.
    """
    root = folder.resolve()
    for entry in _entries(root):
        kind = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            if not Path(entry.path).resolve().is_relative_to(root):
                raise ResultsError(
                    f"{entry.path} is a link that leads out of the study, to {os.readlink(entry.path)}; remove it if somebody "
                    "sent you this folder, or put what it leads to in its place"
                )
        elif not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise ResultsError(f"{entry.path} is neither a file nor a folder (a pipe, a device); remove it")


def refuse_other_folders(folder: Path) -> None:
    """Tell before anything runs what would stop the tables at the end.

    Raises:
        ResultsError: a name there leads out of the folder, or is no file.
    """
    try:
        refuse_links(folder)
    except ResultsError as error:
        if (folder / "study.json").is_file():
            raise
        raise ResultsError(f"{folder} holds other things than a study; give --out a folder of its own") from error


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield links, and what is neither file nor folder, at any depth; what vanishes meanwhile is left out."""
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                entries = list(found)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif not entry.is_file(follow_symlinks=False) and not (
                entry.name == "stores" and Path(entry.path).parent == folder
            ):
                yield entry


def table(path: Path, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
    """Read a Parquet file of a study.

    Args:
        path: the file.
        columns: those to read; None: all.
        filters: as `pyarrow.parquet.read_table` takes them.

    Raises:
        ResultsError: it is damaged, or holds what no table of a study does.
        OSError: it cannot be read.
    """
    schema(path)
    with _damaged(path):
        found = pyarrow.parquet.read_table(path, columns=columns, filters=filters)
    return found.replace_schema_metadata(None)  # what pandas noted there, of types and indices, is not wanted


def schema(path: Path) -> pa.Schema:
    """Read the names and types of a Parquet file of a study.

    Raises:
        ResultsError: it is damaged, or a column has a type that no table of a study has.
        OSError: it cannot be read.
    """
    with _damaged(path):
        found = pyarrow.parquet.read_schema(path)
    if len(set(found.names)) < len(found.names):
        raise ResultsError(f"{path} has two columns of one name; {_ADVICE}")
    for field in found:
        number = any(is_kind(field.type) for is_kind in _NUMERIC)
        if (
            pa.types.is_nested(field.type)
            or isinstance(field.type, pa.BaseExtensionType)
            or (field.name in _NUMBERS and not number)
        ):
            kind = f"the column {field.name!r} is of the type {field.type}, which no table of a study has"
            raise ResultsError(f"{path}: {kind}; {_ADVICE}")
    return found


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Say of which file it is that Arrow complains."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of Arrow
            raise
        told = " ".join(str(error).split())[:_LONGEST]
        raise ResultsError(f"{path} is damaged ({told}); {_ADVICE}") from error
