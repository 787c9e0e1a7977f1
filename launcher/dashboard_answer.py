"""The current answer of a study for the dashboard: composed beside it, as the report composes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_REST = 20
"""The answer takes at most a twentieth of the time: that of a large study costs seconds of bootstrap."""
NOTHING_DONE = "No trial has finished yet, so there is no answer."


def read(folder: Path) -> dict[str, Any]:
    """Compose the answer from the tables of a study.

    Returns:
        headline, and cautions as a list.
    """
    from launcher import report, utterance_files

    answer = report.content(utterance_files.open_study(folder))["answer"]
    return {"headline": answer.headline, "cautions": list(answer.cautions)}


class Answers:
    """Keeps the answer of one study, composed in a thread so that nobody who looks waits for it.

    Args:
        folder: of the study.
        compose: makes the answer.
        clock: seconds.
    """

    def __init__(
        self, folder: Path, compose: Callable[[Path], dict[str, Any]] = read, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._folder, self._compose, self._clock = folder, compose, clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._version: int | None = None
        self._composed = False
        self._not_before = 0.0
        self._answer: dict[str, Any] = {"headline": "The answer is being composed ...", "cautions": []}

    def current(self, version: int) -> dict[str, Any]:
        """Return the last answer; begin to compose a new one when something has changed since.

        Args:
            version: of what the answer depends on.

        Returns:
            headline, cautions, and `stale`: whether trials have ended that it does not know of.
        """
        with self._lock:
            working = self._thread is not None and self._thread.is_alive()
            if version != self._version and not working and self._clock() >= self._not_before:
                self._thread = threading.Thread(target=self._work, args=(version,), daemon=True)
                self._thread.start()
            return {**self._answer, "stale": self._composed and version != self._version}

    def wait(self) -> None:
        """Wait until nothing is being composed."""
        if self._thread is not None:
            self._thread.join()

    def _work(self, version: int) -> None:
        began = self._clock()
        known: int | None = version
        try:
            answer = self._compose(self._folder)
        except (
            Exception
        ) as error:  # shown where the answer would be: the rest of the page goes on, and it is tried again
            text = f"The answer cannot be composed now: {type(error).__name__}: {error}"
            answer, known = {"headline": text, "cautions": []}, None
        with self._lock:
            ended = self._clock()
            self._answer, self._version, self._composed = answer, known, known is not None
            self._not_before = ended + _REST * (ended - began)
