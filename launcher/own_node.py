"""Ends the process that schedules trials once the node of Ray that it belongs to is gone.

Ray leaves a driver alive whose raylet has ended, or was ended by its agent: trials fail, others are never placed, and a study
would wait for ever. Whoever called that process starts another one (launcher.apart).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 2.0
_EXIT_CODE = 1


@contextmanager
def watched(seconds: float = _LOOK_SECONDS) -> Iterator[None]:
    """Look for the time of the block, in which Ray is connected; a node that was declared dead never comes back as itself.

    Args:
        seconds: between two looks.
    """
    import ray

    node_id, over = ray.get_runtime_context().get_node_id(), threading.Event()
    thread = threading.Thread(target=_watch, args=(node_id, over, seconds), name="own-node", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(seconds)


def _watch(node_id: str, over: threading.Event, seconds: float) -> None:
    import ray

    while not over.wait(seconds):
        try:
            nodes = ray.nodes()
        except Exception as error:  # of the head that is gone or slow Ray itself makes an end, after a minute
            print(f"lossgrid: Ray does not say which nodes there are ({error})", file=sys.stderr, flush=True)
            continue
        if any(node["NodeID"] == node_id and not node["Alive"] for node in nodes) and not over.is_set():
            print("lossgrid: the node of Ray that schedules the trials is gone", file=sys.stderr, flush=True)
            os._exit(_EXIT_CODE)  # the main thread may wait for Ray, which answers no more
