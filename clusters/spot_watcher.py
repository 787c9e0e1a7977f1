"""Turn a cloud's notice that it takes a spot machine back into Ray's draining of that node; runs on each spot worker.

    python clusters/spot_watcher.py aws --address HEAD:6379
    python clusters/spot_watcher.py gcp --address HEAD:6379

Nothing in Ray listens to the cloud, and neither cloud calls: the watcher asks again and again. Once Ray knows, it gives the node no
new work, and trials on it make a checkpoint and go on elsewhere. AWS gives notice two minutes ahead (spot/instance-action); its
rebalance recommendation is not taken for one: it may come hours before, or for nothing. Google gives 30 seconds
(instance/preempted). Ends with its node, or once that drains.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib import error, request

import click

_TIMEOUT_SECONDS = 2.0
_TOKEN_SECONDS = 21_600
_GOOGLE_SECONDS = 25.0
"""Of the 30 seconds between notice and end those that are left when it is seen for sure."""
_RAY_SECONDS = 5.0
_ALIVE_POLL_SECONDS = 15.0
_LOST_SECONDS = 300.0
"""So long Ray's server may be silent, or this node unknown to it; a cluster that is gone for longer does not come back."""

logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
_log = logging.getLogger("spot_watcher")


class MetadataError(Exception):
    """The metadata server did not answer, or not as documented."""


@dataclass(frozen=True)
class Cloud:
    """A cloud's way to give notice.

    Attributes:
        metadata: address of its metadata server, from inside of a machine.
        poll_seconds: how often to ask; a small part of the time between notice and end.
        ask: asks the server at an address; returns when the machine ends, seconds since 1970, or None: not yet.
    """

    metadata: str
    poll_seconds: float
    ask: Callable[[str], float | None]


def ask_aws(metadata: str) -> float | None:
    """Ask a server of IMDSv2, which wants a token of its own (the machines of cluster.yaml have no IMDSv1)."""
    want = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
    token = _http(f"{metadata}/latest/api/token", want, method="PUT")
    if token is None:
        raise MetadataError(f"{metadata} gives no token (404)")
    answer = _http(f"{metadata}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    return None if answer is None else end_of_aws(answer)


def end_of_aws(answer: str) -> float:
    """Read {"action": "terminate", "time": "2026-11-23T08:22:00Z"}: stop and hibernate end the work here as well.

    Raises:
        MetadataError: it is something else.
    """
    try:
        told = json.loads(answer)
        moment = datetime.fromisoformat(told["time"].replace("Z", "+00:00"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise MetadataError(
            f"spot/instance-action says {answer[:200]!r}, which holds no action with its time"
        ) from wrong


def ask_gcp(metadata: str) -> float | None:
    """Ask Google's server; it says that the machine is preempted, not when it ends."""
    answer = _http(f"{metadata}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return time.time() + _GOOGLE_SECONDS if answer is not None and is_preempted(answer) else None


def is_preempted(answer: str) -> bool:
    """Read TRUE or FALSE.

    Raises:
        MetadataError: it is something else.
    """
    if answer.strip() not in ("TRUE", "FALSE"):
        raise MetadataError(f"instance/preempted says {answer[:200]!r}, which is neither TRUE nor FALSE")
    return answer.strip() == "TRUE"


CLOUDS = {
    "aws": Cloud("http://169.254.169.254", 5.0, ask_aws),
    "gcp": Cloud("http://metadata.google.internal", 1.0, ask_gcp),
}


def _http(url: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
    """Return the body of an answer; None: 404.

    Raises:
        MetadataError: there is no answer, or another error.
    """
    # The server is on the machine itself: a proxy for the rest of the world would answer for another one.
    direct = request.build_opener(request.ProxyHandler({}))
    try:
        with direct.open(
            request.Request(url, headers=dict(headers), method=method), timeout=_TIMEOUT_SECONDS
        ) as answer:
            return answer.read().decode("utf-8", "replace")
    except error.HTTPError as refused:
        if refused.code == 404:
            return None
        raise MetadataError(f"{url} answers {refused.code}") from refused
    except OSError as silent:  # urllib's own errors are among them
        raise MetadataError(f"{url} does not answer ({silent})") from silent


class Node:
    """This node, as Ray's server knows it.

    Ray has no public call that drains a node. This is the client by which Ray's own autoscaler does it (GcsClient.drain_node); nobody
    promises that it stays as it is, so tests/test_spot.py goes through it with the Ray of constraints.txt.

    Args:
        address: of the server, host:port.
        node_id: hex; None: the only living node with this machine's address.
    """

    def __init__(self, address: str, node_id: str | None = None) -> None:
        self._address, self._id = address, node_id
        self._client: Any = None
        self._was_here, self._seen = False, time.monotonic()

    def is_gone(self) -> bool:
        """Tell whether there is nothing to watch any more: the node left, or was not to be seen for long."""
        try:
            is_here = self._look()
        except Exception as failed:  # what clients of Ray's server raise has no class in common
            _log.warning("cannot ask Ray's server at %s, trying again: %s", self._address, failed)
        else:
            if is_here:
                self._was_here, self._seen = True, time.monotonic()
            elif self._was_here:
                return True
        return time.monotonic() - self._seen > _LOST_SECONDS

    def drain(self, end: float) -> bool:
        """Ask Ray to empty this node until a moment (seconds since 1970); return whether it does."""
        from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]

        try:
            self._look()
            if self._id is None:
                _log.warning("no node of this machine is known at %s yet", self._address)
                return False
            accepted, why = self._server().drain_node(
                self._id, DRAIN_NODE_REASON_PREEMPTION, "spot", math.floor(end * 1000), timeout=_RAY_SECONDS
            )
        except Exception as failed:  # as above
            _log.warning("cannot ask Ray's server at %s, trying again: %s", self._address, failed)
            return False
        if accepted:
            _log.info("Ray drains node %s until %s", self._id, _clock(end))
        else:
            _log.warning("Ray does not drain node %s: %s", self._id, why)
        return accepted

    def _look(self) -> bool:
        """Find this node; tell whether it lives."""
        from ray._private.services import get_node_ip_address
        from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]

        known = self._server().get_all_node_info(timeout=_RAY_SECONDS)
        living = {key.hex(): node for key, node in known.items() if node.state == GcsNodeInfo.ALIVE}
        if self._id is None:
            mine = get_node_ip_address(self._address)  # as `ray start` finds it
            found = [key for key, node in living.items() if node.node_manager_address == mine]
            if len(found) > 1:
                raise LookupError(f"{len(found)} living nodes have the address {mine}; name one with --node-id")
            self._id = found[0] if found else None
        return self._id in living

    def _server(self) -> Any:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        if self._client is None:
            self._client = GcsClient(address=self._address)
        return self._client


def watch(cloud: Cloud, metadata: str, poll_seconds: float, node: Node) -> None:
    """Ask until the node is gone, or drains."""
    told, looked = "", -math.inf
    while True:
        if time.monotonic() - looked > _ALIVE_POLL_SECONDS:
            looked = time.monotonic()
            if node.is_gone():
                _log.info("the node has left the cluster; nothing to watch any more")
                return
        try:
            end, said = cloud.ask(metadata), ""
        except MetadataError as failed:
            end, said = None, str(failed)
        if said != told:
            told = said
            _log.warning("%s", f"{said}; asking again" if said else "the metadata server answers again")
        if end is not None:
            _log.info("this machine is taken back at %s", _clock(end))
            if node.drain(end):
                return
        time.sleep(poll_seconds if end is None else min(1.0, poll_seconds))


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds")


@click.command()
@click.argument("cloud", type=click.Choice(list(CLOUDS)))
@click.option("--address", required=True, metavar="HOST:PORT", help="Of the cluster: what `ray start` was given.")
@click.option(
    "--node-id", metavar="HEX", help="Ray's name of this node.  [default: the one with this machine's address]"
)
@click.option("--metadata", metavar="URL", help="Metadata server.  [default: the cloud's]")
@click.option(
    "--poll-seconds", type=click.FloatRange(min=0.05), help="How often to ask.  [default: 5 on AWS, 1 on Google]"
)
def main(cloud: str, address: str, node_id: str | None, metadata: str | None, poll_seconds: float | None) -> None:
    """Tell Ray when CLOUD takes this machine back."""
    chosen = CLOUDS[cloud]
    _log.info("watching for a notice of %s", cloud)
    where = (metadata or chosen.metadata).rstrip("/")
    watch(chosen, where, poll_seconds or chosen.poll_seconds, Node(address, node_id))


if __name__ == "__main__":
    main()
