"""Notice that the node of this process is about to be taken away: a spot machine that was given notice, or one that is emptied.

Ray is told by `clusters/spot_watcher.py` (or by whoever drains the node) and gives a draining node no new work; what runs
there is left alone until the deadline. Ray Train would tell its workers, Ray Tune nobody, so both backends ask here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from launcher import results

FILE = "drain.json"
"""In the folder of a trial: which node is taken away, and until when it is there; the attempt ends behind a checkpoint."""
POLL_SECONDS = 2.0
"""A notice comes 120 seconds ahead on AWS, 30 on Google Cloud. Asking takes Ray about 4 ms."""


@contextmanager
def watched(job: Mapping[str, Any]) -> Iterator[None]:
    """Write `drain.json` once the node of this process drains; for the time of the block.

    Args:
        job: what this process works on, with paths of this node; nothing is watched for one that cannot drain.
    """
    if not job.get("may_drain"):
        yield
        return
    import ray

    context = ray.get_runtime_context()
    over = threading.Event()
    node = (context.get_node_id(), ray.util.get_node_ip_address())
    thread = threading.Thread(target=_watch, args=(*node, Path(job["folder"]), over), name="draining", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(POLL_SECONDS)


def here(job: Mapping[str, Any]) -> bool:
    """Tell whether the node of this process drains; of a job that cannot drain nobody is asked."""
    import ray

    return bool(job.get("may_drain")) and ray.get_runtime_context().get_node_id() in _draining()


def _watch(node: str, address: str, folder: Path, over: threading.Event) -> None:
    told = ""
    while not over.wait(POLL_SECONDS):
        try:
            draining = _draining()
            # Again where it is gone: an attempt that begins removes what is there, and it may begin after this looked.
            if node in draining and not (folder / FILE).is_file() and not over.is_set():
                results.write_json(folder / FILE, {"node": address, "until": _time(draining[node])})
        # Ray's server restarts, or the folder is full for a while: training meets the same and decides; this asks again.
        except Exception as error:
            if str(error) != told:
                told = str(error)
                print(f"cannot tell whether this node is taken away, asking again: {error}", file=sys.stderr)


def _draining() -> dict[str, int]:
    """Return the ids of nodes that drain, each with its deadline in milliseconds since 1970; 0: it has none."""
    from ray._private import state  # what Ray Train asks too; there is no public way in 2.60

    return state.state.get_draining_nodes()


def _time(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat(timespec="seconds")
