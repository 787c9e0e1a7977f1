"""Make machines of a cluster come, wait for them, let them go: run on the head, or anywhere with RAY_ADDRESS.

    python clusters/capacity.py ask 8       # 8 GPUs, and wait until they are there
    python clusters/capacity.py wait 3      # until 3 nodes are there
    python clusters/capacity.py release     # idle machines may go again

A launch decides how many trials run at a time by the GPUs that it finds, and a cluster that scales from zero shows none.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

import click

_POLL_SECONDS = 5.0


@click.group()
def main() -> None:
    """Make machines of a cluster come, wait for them, let them go."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level=logging.ERROR)


@main.command()
@click.argument("gpus", type=click.IntRange(1))
@click.option("--minutes", type=click.FloatRange(min=0), default=30.0, show_default=True, help="How long to wait.")
def ask(gpus: int, minutes: float) -> None:
    """Ask the autoscaler for GPUS GPUs and wait for them; the request stands until `release`."""
    import ray
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"GPU": 1}] * gpus)
    there = int(_until(lambda: ray.cluster_resources().get("GPU", 0), gpus, "GPUs", minutes))
    if there < gpus:
        # Spot machines may be scarce for hours: those that are there are paid for, so they work.
        click.echo(f"going on with {there} of {gpus} GPUs: the others did not come in {minutes:g} minutes", err=True)
    if there == 0:
        request_resources(bundles=[])
        logs = "/tmp/ray/session_latest/logs/monitor*"
        sys.exit(f"no GPU came; `ray status` and {logs} on the head say why. Nothing is asked for any more")


@main.command()
@click.argument("nodes", type=click.IntRange(1))
@click.option("--minutes", type=click.FloatRange(min=0), default=10.0, show_default=True, help="How long to wait.")
def wait(nodes: int, minutes: float) -> None:
    """Wait for NODES nodes."""
    import ray

    there = _until(lambda: sum(node["Alive"] for node in ray.nodes()), nodes, "nodes", minutes)
    if there < nodes:
        sys.exit(f"{there:g} of {nodes} nodes came in {minutes:g} minutes; see what `ray start` said on the others")


@main.command()
def release() -> None:
    """Ask for nothing any more: idle machines go after the idle timeout of the cluster."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[])


def _until(count: Callable[[], float], wanted: int, what: str, minutes: float) -> float:
    """Poll until enough are there or the time is over; return how many there are."""
    end, shown = time.monotonic() + 60 * minutes, -1.0
    while (there := count()) < wanted and time.monotonic() < end:
        if there != shown:
            click.echo(f"{there:g} of {wanted} {what}", err=True)
            shown = there
        time.sleep(_POLL_SECONDS)
    return there


if __name__ == "__main__":
    main()
