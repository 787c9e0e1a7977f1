"""A Ray of its own on this machine, for the time of one study: what it is started with."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Mapping
from typing import Any

_DRIVERS = 1000


def arguments(driver: str) -> Mapping[str, Any]:
    """Return what `ray.init` is given; every process of this one is told where its server is.

    Args:
        driver: the resource that drivers of trials are placed by.
    """
    # Without the dashboard's State API, Ray Train does not free the placement group of a trial that was stopped or
    # killed, and the next trial on a full machine waits for ever.
    # Ray Train asks it without an address, and so might find the cluster of somebody else on this machine, or one that
    # is gone and left its name in /tmp/ray: every process is told where ours is.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
    return {
        "address": "local",
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": port,
        **_quoted_python(),
        "_node_ip_address": "127.0.0.1",  # some ports of Ray listen everywhere all the same; the token guards them
        "resources": {driver: _DRIVERS},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }


def _quoted_python() -> Mapping[str, Any]:
    """Ray hands the path of Python to a shell as it is: below a folder with a space no worker would start."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"runtime_env": {"py_executable": quoted}}
