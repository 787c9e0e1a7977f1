"""TensorBoard beside the dashboard: a process of its own on a free port of this machine, ended with it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

_SERVING = re.compile(r"http://127\.0\.0\.1:\d+/")
_PATIENCE_SECONDS = 10.0
_KEPT_LINES = 3


class TensorBoard:
    """A running TensorBoard.

    It asks nobody for a token: whoever has an account on this machine can open it while it runs.

    Args:
        folders: of the studies; their runs are named by study where there are several. They need not be there yet.
        program: what is started.
    """

    def __init__(
        self, folders: Sequence[Path], program: Sequence[str] = (sys.executable, "-m", "tensorboard.main")
    ) -> None:  # fmt: skip
        self._scratch = tempfile.TemporaryDirectory(prefix="lossgrid-tensorboard-")
        self._lines: list[str] = []
        self._url = ""
        self._told = threading.Event()
        logs = _one_folder(folders, Path(self._scratch.name))
        self._process = subprocess.Popen(
            [*program, "--logdir", str(logs), "--host", "127.0.0.1", "--port", "0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            start_new_session=True,  # Ctrl-C ends it by way of `end`, which waits for it
        )  # fmt: skip
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def state(self) -> dict[str, str]:
        """Tell its `url` once it serves; `problem` when it has ended; neither while it starts."""
        if self._process.poll() is not None:
            said = " ".join(self._lines) or f"exit code {self._process.returncode}"
            return {"problem": f"TensorBoard has ended: {said}"}
        return {"url": self._url} if self._url else {}

    def wait(self, seconds: float) -> None:
        """Wait until it serves or has ended, but no longer than that."""
        self._told.wait(seconds)

    def end(self) -> None:
        """End it, and wait until it has."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._scratch.cleanup()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._lines = [*self._lines, line.strip()][-_KEPT_LINES:]
                if found := _SERVING.search(line):
                    self._url = found.group()
                    self._told.set()
        self._told.set()


def _one_folder(folders: Sequence[Path], scratch: Path) -> Path:
    """Return the folder that TensorBoard looks into: of several studies, one of links to them."""
    if len(folders) == 1:
        return folders[0].resolve() / "tensorboard"
    for number, folder in enumerate(folders, start=1):
        (scratch / f"{number}-{folder.resolve().name}").symlink_to(folder.resolve() / "tensorboard")
    return scratch
