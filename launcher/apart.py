"""Do a piece of work in a process of its own, which may die without taking this one along.

Ray ends the process that drives it when its own processes on this machine are gone (killed, out of memory): a study of a
week would end in the first night. So trials are scheduled in a child of the launch, and the launch starts another one.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

_ORPHAN_POLL_SECONDS = 1.0
_WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BrokenOff(RuntimeError):
    """The process was gone, or had an error, before its work was done.

    Attributes:
        was_asked: somebody had asked for the end before.
    """

    def __init__(self, message: str, *, was_asked: bool = False) -> None:
        super().__init__(message)
        self.was_asked = was_asked


class Terminal(io.TextIOBase):
    """A terminal that may go away (a window closed, a pipe that nobody reads): then nothing is shown, and work goes on.

    Args:
        number: of its file descriptor.
    """

    def __init__(self, number: int) -> None:
        self._number, self._is_gone = number, False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What is written in."""
        return "utf-8"

    def isatty(self) -> bool:
        """Tell whether somebody sees it."""
        return os.isatty(self._number)

    def fileno(self) -> int:
        """Return the number of its file descriptor."""
        return self._number

    def write(self, text: str) -> int:
        """Show a text at once."""
        left = b"" if self._is_gone else text.encode(self.encoding, "replace")
        try:
            while left:
                left = left[os.write(self._number, left) :]
        except OSError as error:
            self._is_gone = True
            print(f"nothing is shown any more: the terminal is gone ({error.strerror})")
        return len(text)


def call(work: Callable[..., Any], *arguments: Any, log: Path) -> Any:
    """Call a function in a process of its own and return what it returns.

    The child is given a terminal for `work` as its last argument: the stderr of this process. What else the child and
    its libraries print, also from outside of Python, goes to the log. Ctrl-C, SIGTERM and the end of the terminal (SIGHUP)
    are passed on to the child as Ctrl-C, each once; the child ends when this process is killed.

    Args:
        work: a function of a module, called as `work(*arguments, terminal)`.
        arguments: what can be pickled.
        log: file that is appended to.

    Returns:
        what the work returned; None when it was stopped before it could return something.

    Raises:
        BrokenOff: the process died, or the work raised an error; the message says which.
        OSError: the log cannot be written.
        ValueError: with `is_request_error`, as the work raised it.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with log.open("a", encoding="utf-8") as file:
        child = context.Process(target=_child, args=(theirs, os.getpid(), log, work, arguments))
        wishes = _Wishes(child, file.fileno())
        with wishes.passed_on():
            child.start()
            theirs.close()  # so that the end of the child is the end of the pipe
            kind, content = _answer(ours, wishes)
            child.join()
    if kind == "gone":
        if wishes.made or child.exitcode in [-wish for wish in _WISHES]:
            return None
        raise BrokenOff(f"the process that schedules the trials {_ending(child.exitcode)}; see {log}")
    if kind == "error":
        raise BrokenOff(f"{content}; see {log}", was_asked=wishes.made > 0)
    if kind == "request":
        raise content
    return content


def _answer(ours: Connection, wishes: _Wishes) -> tuple[str, Any]:
    """Wait for what became of the work; once the child listens it hears what was wished before."""
    try:
        kind, content = ours.recv()
        if kind == "listening":
            wishes.child_listens()
            kind, content = ours.recv()
    except EOFError:
        return "gone", ""
    return kind, content


def _child(
    answer: Connection, parent: int, log: Path, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:  # fmt: skip
    # Out of the terminal's foreground group: Ctrl-C reaches the parent alone, which passes it on once.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script begins without
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # what Ray starts, a job too, begins with it blocked
    # `ray job stop` and Slurm tell all processes at once; the parent passes it on. Not SIG_IGN: children would inherit that.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    terminal = Terminal(os.dup(2))
    _print_into(log)
    try:
        answer.send(("listening", None))
        answer.send(("done", work(*arguments, terminal)))
    except KeyboardInterrupt:
        answer.send(("stopped", None))
    except BaseException as error:
        traceback.print_exc()
        is_request = getattr(error, "is_request_error", False)
        answer.send(("request", error) if is_request else ("error", f"{type(error).__name__}: {error}"))


def _end_with(parent: int) -> None:
    """End this process once its parent is gone: nobody would hear how the work ended."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_POLL_SECONDS)
    os._exit(1)


def _print_into(log: Path) -> None:
    """Send stdout and stderr of this process, and of all that it starts, to a file."""
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = _into(1), _into(2)


def _into(number: int) -> io.TextIOWrapper:
    # Written at once: what waits in a buffer for a disk with room is lost with a process that is killed.
    return io.TextIOWrapper(_Log(number, "w", closefd=False), encoding="utf-8", errors="replace", write_through=True)


class _Log(io.FileIO):
    """A log that may be on a full disk: then lines are lost, and neither the work nor why it ended is."""

    def write(self, content: Any) -> int:
        """Write what there is room for."""
        try:
            super().write(content)
        except OSError:
            pass
        return len(content)


class _Wishes:
    """Wishes for the end, passed on to a child as Ctrl-C; those that come before it listens are kept for it.

    Args:
        child: may not have been started yet.
        log: file descriptor that takes the place of a terminal that is gone.
    """

    def __init__(self, child: Any, log: int) -> None:
        self._child, self._log, self._listens, self._is_kept = child, log, False, False
        self.made = 0

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Listen for wishes within the block."""
        # nohup: the study is to outlive its terminal.
        heard = [wish for wish in _WISHES if wish != signal.SIGHUP or signal.getsignal(wish) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._hear) for number in heard}
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)  # a job of Ray begins with Ctrl-C blocked
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in before.items():
                signal.signal(number, handler)

    def child_listens(self) -> None:
        """Pass on what was wished so far."""
        self._listens = True
        if self._is_kept:  # not `made`: a wish that is heard from here on is passed on where it is heard, once
            os.kill(self._child.pid, signal.SIGINT)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.made += 1
        self._is_kept = self._is_kept or not self._listens
        if number == signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)  # the shell and the system tell it one after the other
            os.dup2(self._log, 1)
            os.dup2(self._log, 2)
        if self._child.pid is None or not self._child.is_alive():
            return
        if self._listens:
            os.kill(self._child.pid, signal.SIGINT)
        elif self.made > 1:  # it has begun nothing yet
            self._child.kill()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    return f"ended by itself with code {code}"
