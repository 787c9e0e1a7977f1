"""What attempts left in their folders on a machine: what they could not send is sent, what was killed is removed."""

from __future__ import annotations

import fcntl
import shutil
import sys
from pathlib import Path

from launcher.mirror import Mirror
from launcher.results import ResultsError
from launcher.retries import first_line
from launcher.sending import UNSENT, Sender, Superseded

LOCK = ".lock"


def see_to(uri: str, base: Path, *, spare: Path | None = None) -> None:
    """Send and remove what attempts that live no more have left; what cannot be sent now stays for the next time.

    Args:
        uri: of the study.
        base: folder with a folder and a lock for each attempt of this machine.
        spare: that of the attempt that begins; what others left of the same trial is waited for where somebody else sends it.
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
            if (folder / UNSENT).is_file() and not _is_sent(uri, folder):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            path.unlink(missing_ok=True)


def _is_sent(uri: str, folder: Path) -> bool:
    """Send what an attempt could not; also True where nobody wants it any more."""
    name = _trial(folder)
    try:
        Sender(name, {}, Mirror(uri, folder, folder / UNSENT)).take_over()
    except Superseded as superseded:
        print(superseded, file=sys.stderr)
    except (ResultsError, OSError) as error:
        print(f"{name}: what an earlier attempt made stays in {folder}: {first_line(error)}", file=sys.stderr)
        return False
    else:
        print(f"{name}: what an earlier attempt could not send is sent", file=sys.stderr)
    return True


def _trial(folder: Path) -> str:
    return folder.name.rpartition("-")[0]
