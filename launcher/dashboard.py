"""`dashboard`: a live page about studies for a browser of this machine. Reads their tables, writes nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import click

from launcher.dashboard_server import Server, Site
from launcher.dashboard_state import StudyView
from launcher.dashboard_tensorboard import TensorBoard

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def execute(
    folders: Sequence[Path], *, port: int = 0, tensorboard: bool = False, visit: Callable[[str], object] | None = None
) -> int:  # fmt: skip
    """Serve until Ctrl-C; the address goes to stdout.

    Args:
        folders: of studies; those that are not there yet are waited for.
        port: 0: any that is free.
        tensorboard: also start TensorBoard.
        visit: what to do with an address that opens the page once, such as giving it to a browser.

    Returns:
        0.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        try:
            site = Site([StudyView(folder) for folder in folders])
            server = stack.enter_context(Server(site, port))
            for folder in folders:
                if not (folder / "study.json").is_file():
                    click.echo(f"Note: {folder} holds no study yet; the page waits for it", err=True)
            if tensorboard:
                board = TensorBoard(folders)
                stack.callback(board.end)
                site.tensorboard = board.state
            click.echo(server.url)
            if visit is not None:
                visit(server.url_once())
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    return 0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and a closed terminal end the block, once: what is to be tidied up is not interrupted.

    From then on they are ignored, until the process has ended. What it was told to ignore it ignores all along.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)
