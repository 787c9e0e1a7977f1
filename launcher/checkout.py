"""The checkout that this code runs from: its commit, and a patch of what differs from it. Nothing in it is changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 20
_BIG_BYTES = 1 << 20
_MOST_BYTES = 20 << 20  # of untracked content in one patch
_MOST_HASHED_BYTES = 1 << 30  # about two seconds of reading; a corpus in the checkout must not hold up every launch
# Recordings of people, and what looks like a key to something, are listed whatever their size.
_PRIVATE = re.compile(
    r"\.(wav|flac|mp3|ogg|opus|m4a|sph|aiff?|pem|key|p12|pfx)$|(^|/)\.env|(^|/)id_(rsa|dsa|ecdsa|ed25519)|"
    r"(token|secret|password|credential)s?(\.(txt|json|ya?ml|env|cfg|ini|toml))?$",
    re.IGNORECASE,
)
_OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
                     "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_NAMESPACE")  # fmt: skip


class GitError(Exception):
    """Git is not there, refused, or took too long; the message says which."""


@dataclass(frozen=True)
class Checkout:
    """What a checkout held.

    Attributes:
        commit: its hash; None outside a checkout, or when git does not tell.
        patch: what `git apply` makes of the commit what was there, with the untracked files that git does not ignore;
            some are listed in comment lines instead. Empty when nothing differs; None when git does not tell.
        problem: why something is not known; None when all is.
    """

    commit: str | None = None
    patch: bytes | None = b""
    problem: str | None = None


def state(folder: Path, *, out: Path | None = None) -> Checkout:
    """Look at the checkout in a folder; other folders and the current one are not looked at.

    Args:
        folder: where the code lies.
        out: folder of a study, whose files are no part of the code; like other studies it is left out.
    """
    folder = folder.resolve()
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return Checkout()
    commit = None
    try:
        if not (folder / ".git").exists() and not _git(folder, "ls-files", "--", "."):
            return Checkout()  # an installed package inside a checkout of something else
        answer = _git(folder, "rev-parse", "HEAD", "--git-path", "index", "--git-path", "objects")
        commit, index, objects = os.fsdecode(answer).splitlines()
        return Checkout(commit, _patch(folder, folder / index, folder / objects, out))
    except GitError as error:
        return Checkout(commit, None, str(error))


def _patch(folder: Path, index: Path, objects: Path, out: Path | None) -> bytes:
    inside = out is not None and folder in out.resolve().parents
    omitted = [f":(exclude,literal){out.resolve().relative_to(folder)}"] if out is not None and inside else []
    listing = _git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", ".", *omitted)
    taken, lines = _sorted_out(folder, _of_no_study(os.fsdecode(listing).split("\0")[:-1]))
    with _copy_of_index(index, objects) as environment:
        if taken:
            names = b"".join(os.fsencode(name) + b"\0" for name in taken)
            _git(folder, "add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul", stdin=names,
                 environment={**environment, "GIT_LITERAL_PATHSPECS": "1"})  # fmt: skip
        changes = _git(folder, "diff", "HEAD", "--binary", "--full-index", "--no-ext-diff", "--no-textconv",
                       "--no-color", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/", "--", ".", *omitted,
                       environment=environment)  # fmt: skip
    return "".join(lines).encode() + changes


def _of_no_study(names: Sequence[str]) -> list[str]:
    """Leave out what studies have written: it changes while they run, and is made by code rather than code."""
    studies = {os.path.dirname(name) + "/" for name in names if os.path.basename(name) == "study.json"} - {"/"}
    return [name for name in names if not any(name.startswith(study) for study in studies)]


def _sorted_out(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which untracked files go into the patch, and a comment line for each of the others."""
    described = sorted((os.lstat(folder / name), name) for name in names if os.path.lexists(folder / name))
    taken, lines, num_taken, num_hashed = [], [], 0, 0
    for status, name in sorted(described, key=lambda entry: (entry[0].st_size, entry[1])):
        size = status.st_size
        readable = stat.S_ISLNK(status.st_mode) or os.access(folder / name, os.R_OK)
        if name.endswith("/"):
            lines.append((name, "a checkout of its own"))
        elif not readable:
            lines.append((name, "not readable"))
        elif size <= _BIG_BYTES and num_taken + size <= _MOST_BYTES and not _PRIVATE.search(name):
            taken.append(name)
            num_taken += size
        elif num_hashed + size <= _MOST_HASHED_BYTES:
            lines.append((name, f"{size} bytes, sha256 {_sha256(folder / name)}"))
            num_hashed += size
        else:
            lines.append((name, f"{size} bytes, changed at {status.st_mtime_ns} ns"))
    return sorted(taken), [f"# untracked, listed only: {json.dumps(name)}: {what}\n" for name, what in sorted(lines)]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise GitError(f"{path.name} cannot be read ({error.strerror})") from error
    return digest.hexdigest()


@contextmanager
def _copy_of_index(index: Path, objects: Path) -> Iterator[dict[str, str]]:
    """Let git note new files in a copy, so that the checkout stays as it is and may be read-only."""
    with tempfile.TemporaryDirectory(prefix="lossgrid-git-") as scratch:
        copy, own = Path(scratch, "index"), Path(scratch, "objects")
        own.mkdir()
        if index.is_file():
            # With its time: by that git knows what was changed in the very second after it looked, and looks again.
            shutil.copy2(index, copy)
        quoted = str(objects).replace("\\", "\\\\").replace('"', '\\"')
        yield {
            "GIT_INDEX_FILE": str(copy),
            "GIT_OBJECT_DIRECTORY": str(own),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{quoted}"',
        }


def _git(
    folder: Path, *words: str, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> bytes:  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name not in _OTHER_REPOSITORY}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *words],
            input=stdin, capture_output=True, timeout=_SECONDS,
            env={**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", **(environment or {})},
        )  # fmt: skip
    except OSError as error:
        raise GitError(f"git cannot be run ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {words[0]} took longer than {_SECONDS} s") from error
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        text = told[0] if told else f"exit code {done.returncode}"
        if "dubious ownership" in text:
            text += f"; `git config --global --add safe.directory {folder}` trusts it"
        raise GitError(f"git {words[0]} failed ({text})")
    return done.stdout
