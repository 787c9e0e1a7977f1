"""What attempts left in their folders on a machine: what they could not send is sent, what was killed is removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path
from typing import IO

from launcher.mirror import Mirror
from launcher.results import ResultsError
from launcher.retries import StorageError, first_line
from launcher.sending import SENT, UNSENT, Sender, Superseded

LOCK = ".lock"


def see_to(uri: str, base: Path, *, spare: Path | None = None) -> None:
    """Send and remove what attempts that live no more have left; what cannot be sent now stays for the next time.

    Args:
        uri: of the study.
        base: folder with a folder and a lock for each attempt of this machine.
        spare: that of the attempt that begins; what others left of the same trial is waited for where somebody else sends it.

    Raises:
        StorageError: something of the trial that begins cannot be sent now: it would begin without what was done already.
    """
    trial = spare and _trial(spare)
    for path in sorted(base.glob(f"*{LOCK}")):
        folder = path.with_suffix("")
        if folder == spare:
            continue
        is_awaited = _trial(folder) == trial and (folder / UNSENT).is_file()
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if is_awaited else fcntl.LOCK_NB))
            except BlockingIOError:
                continue  # one of its workers lives
            if not is_there(lock, path):
                continue  # somebody else saw to it, and an attempt that begins may have made another
            index = next((folder / name for name in (UNSENT, SENT) if (folder / name).is_file()), None)
            if index is not None and (problem := _problem(uri, folder, index)):
                if _trial(folder) == trial:
                    raise StorageError(problem)
                print(problem, file=sys.stderr)
                continue
            shutil.rmtree(folder, ignore_errors=True)
            path.unlink(missing_ok=True)


def is_there(lock: IO[str], path: Path) -> bool:
    """Tell whether a lock that is held is that of a path: whoever held it before may have removed the file since it was opened."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _problem(uri: str, folder: Path, index: Path) -> str:
    """Send what an attempt could not, or say why not; "" also where nobody wants it any more."""
    name = _trial(folder)
    try:
        was_sent = Sender(name, {}, Mirror(uri, folder, index, is_known=True)).take_over()
    except Superseded as superseded:
        print(superseded, file=sys.stderr)
    except (ResultsError, OSError) as error:
        return f"{name}: what an earlier attempt made stays in {folder}: {first_line(error)}"
    else:
        if was_sent:
            print(f"{name}: what an earlier attempt could not send is sent", file=sys.stderr)
    return ""


def _trial(folder: Path) -> str:
    return folder.name.rpartition("-")[0]
