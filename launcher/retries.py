"""What fails over a network is tried again, for as long as another try may help."""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from launcher.masking import without_passwords
from launcher.results import ResultsError

_PAUSES_SECONDS, _SHORT_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0), 30.0
_LONG_SECONDS, _LONG_PAUSE_SECONDS = 240.0, 15.0

Result = TypeVar("Result")


class StorageError(ResultsError):
    """The other file system cannot be reached, read or written to.

    Attributes:
        may_pass: another try may help; also where access is refused: keys of a machine are renewed.
    """

    may_pass = True


class NoRoom(StorageError):
    """The disk of this machine is full or read-only: that is not for the network to mend."""

    may_pass, exit_code = False, 130


def with_room(work: Callable[[], Result], path: Path) -> Result:
    """Do something that writes a file of this machine.

    Raises:
        NoRoom: the disk is full or read-only.
    """
    try:
        return work()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise NoRoom(f"{path} cannot be written on this machine ({error.strerror}); make room there") from error


def again(work: Callable[[], Result], failed: str, *, patient: bool) -> Result:
    """Do something over the network; what fails is tried again for half a minute.

    One try may take longer: where nobody answers at all, pyarrow itself gives up after 100 seconds (measured with S3).

    Args:
        work: what is done.
        failed: what is said when it fails to the end, beside the reason.
        patient: whether to try again at all.

    Raises:
        StorageError: it failed to the end.
    """
    until = time.monotonic() + _SHORT_SECONDS
    for pause in (*(_PAUSES_SECONDS if patient else ()), None):
        try:
            return work()
        except OSError as error:
            if pause is None or not _may_pass(error) or time.monotonic() >= until:
                raise StorageError(f"{failed}: {first_line(error)}") from error
            time.sleep(pause)
    raise AssertionError("unreachable")


def at_length(work: Callable[[], Result]) -> Result:
    """Do something without which a study cannot go on: a network that is gone for some minutes is waited for.

    Args:
        work: what is done; it may have tried again for a while itself.

    Raises:
        StorageError: it failed for four minutes, or may not pass.
    """
    until, told = time.monotonic() + _LONG_SECONDS, False
    while True:
        is_last = time.monotonic() >= until  # by when a try begins: it may itself take longer than the network was gone
        try:
            return work()
        except StorageError as error:
            if not error.may_pass or is_last:
                raise
            if not told:
                print(f"{first_line(error)}; trying again for {_LONG_SECONDS:.0f} s", file=sys.stderr)
                told = True
        time.sleep(_LONG_PAUSE_SECONDS)


@contextmanager
def repeated(work: Callable[[], None], seconds: float) -> Iterator[None]:
    """Do something again and again while the block lasts; what fails over the network is tried at the next turn."""
    over = threading.Event()

    def turn() -> None:
        complaint = ""
        while not over.wait(seconds):
            try:
                work()
            except Exception as error:  # a full disk or a file that just went must not end what comes every few seconds
                if first_line(error) != complaint:  # an outage of an hour is one line
                    complaint = first_line(error)
                    print(f"{complaint}; trying again", file=sys.stderr)
            else:
                if complaint:
                    complaint = ""
                    print("what failed works again", file=sys.stderr)

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _may_pass(error: OSError) -> bool:
    """Tell whether another try may help: not where access is refused or the bucket is none."""
    told = str(error)
    return not isinstance(error, (PermissionError, FileNotFoundError, NotADirectoryError)) and not any(
        word in told for word in ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY", "SIGNATURE", "FORBIDDEN")
    )


def first_line(error: BaseException) -> str:
    """Say in short what an error says, or what it is."""
    return (
        without_passwords(str(error).partition("\n")[0])[:300] or type(error).__name__
    )  # half an address looks like none
