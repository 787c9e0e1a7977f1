"""Do a piece of work in a process of its own, which may die without taking this one along.

Ray ends the process that drives it when its own processes on this machine are gone (killed, out of memory): a study of a
week would end in the first night. So trials are scheduled in a child of the launch, and the launch starts another one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
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


class BrokenOff(RuntimeError):
    """The process was gone, or had an error, before its work was done."""


def call(work: Callable[..., Any], *arguments: Any, log: Path) -> Any:
    """Call a function in a process of its own and return what it returns.

    The child is given a terminal for `work` as its last argument: the stderr of this process. What else the child and
    its libraries print, also from outside of Python, goes to the log. Ctrl-C and SIGTERM are passed on to the child as
    Ctrl-C, each once; the child ends when this process is killed.

    Args:
        work: a function of a module, called as `work(*arguments, terminal)`.
        arguments: what can be pickled.
        log: file that is appended to.

    Returns:
        what the work returned; None when it was stopped by a second Ctrl-C.

    Raises:
        BrokenOff: the process died, or the work raised an error; the message says which.
        ValueError: with `is_request_error`, as the work raised it.
    """
    context = multiprocessing.get_context("spawn")
    content: Any
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, os.getpid(), log, work, arguments))
    with _signals_passed_on(child):
        child.start()
        theirs.close()  # so that the end of the child is the end of the pipe
        try:
            kind, content = ours.recv()
        except EOFError:
            kind, content = "gone", ""
        child.join()
    if kind == "gone":
        raise BrokenOff(f"the process that schedules the trials {_ending(child.exitcode)}; see {log}")
    if kind == "error":
        raise BrokenOff(f"{content}; see {log}")
    if kind == "request":
        raise content
    return content


def _child(
    answer: Connection, parent: int, log: Path, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:  # fmt: skip
    # Out of the terminal's foreground group: Ctrl-C reaches the parent alone, which passes it on once.
    os.setpgid(0, 0)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with os.fdopen(os.dup(2), "w", encoding="utf-8") as terminal:
        _print_into(log)
        try:
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


@contextmanager
def _signals_passed_on(child: Any) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        if child.pid is not None and child.is_alive():
            os.kill(child.pid, signal.SIGINT)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    return f"ended by itself with code {code}"
