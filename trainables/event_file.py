"""TensorBoard's file of one attempt at a trial, written by whoever logs.

tensorboardX's SummaryWriter writes from a thread behind a queue. The first error of the disk ends that thread without a
word, and once its queue is full the trial waits in it for ever; here the error is raised where the point was made.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]  # protobuf makes them at import
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import hparams, scalar

_FORMAT = "brain.Event:2"
_KEPT_BYTES = 8192
"""Points that wait for the next evaluation or checkpoint; more are written before."""


class EventFile:
    """Adds events to a file of its own; it is opened for each block, so that nothing is left open by a trial that fails.

    Args:
        folder: of the run.
        purge_step: what earlier files say from this update on is struck out; None: nothing is.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a run by name, and two attempts may begin within a second.
        seconds, more = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds}.{more:09}.{socket.gethostname()}.{os.getpid()}"
        self._path, self._waiting = folder / name, b""
        self._add(file_version=_FORMAT)
        if purge_step is not None:
            self._add(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def add_scalar(self, tag: str, value: float, update: int) -> None:
        """Add one point of a curve."""
        self._add(step=update, summary=scalar(tag, value))

    def add_hparams(self, hyperparameters: Mapping[str, Any], final: Mapping[str, float]) -> None:
        """Add what the page HParams shows."""
        for summary in hparams(dict(hyperparameters), dict(final)):
            self._add(summary=summary)
        for tag, value in final.items():
            self._add(summary=scalar(tag, value))

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: it cannot be written; this file is not to be added to any more, as its last event may be torn.
        """
        block, self._waiting = self._waiting, b""
        with self._path.open("ab") as file:
            file.write(block)

    def _add(self, **content: Any) -> None:
        data = Event(wall_time=time.time(), **content).SerializeToString()
        length = struct.pack("<Q", len(data))
        parts = (length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data)))
        self._waiting += b"".join(parts)
        if len(self._waiting) >= _KEPT_BYTES:
            self.flush()
