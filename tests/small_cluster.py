"""A real cluster of several nodes on this machine, for tests: each raylet has a loopback address of its own.

`python tests/small_cluster.py` is the process that holds it; it reads `add ADDRESS`, `kill ADDRESS` and, as the end, nothing
more. Nothing of it is written where Ray looks for a cluster by itself: others on this machine do not find it.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import launches

_JOINING_SECONDS = 120.0


class SmallCluster:
    """Starts the process and talks to it; a head without CPU comes first.

    Args:
        environment: of Ray; a token, a folder for its files and a free port for the dashboard are added.
        most_cpus: what the head says that the cluster may grow to; 0: it says nothing.
    """

    def __init__(self, environment: dict[str, str], most_cpus: int = 0) -> None:
        # Short: the path of a socket may have 107 characters.
        self._folder = tempfile.TemporaryDirectory(prefix="lg-", ignore_cleanup_errors=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.environment = {
            **environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": self._folder.name,
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}", "GLOO_SOCKET_IFNAME": "lo",
        }  # fmt: skip
        self._errors = Path(self._folder.name, "errors.txt").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(port), str(most_cpus)], env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.address = self._answer()

    def launch(self, folder: Path, data: Path, *words: str) -> subprocess.Popen[str]:
        """Give the command of a study on this cluster."""
        return launches.start(folder, data, "--address", self.address, *words, variables=self.environment)

    def add(self, address: str, python_path: str = "") -> str:
        """Add a node with one CPU, with a PYTHONPATH of its own; return its id."""
        return self._ask(f"add {address} {python_path}")

    def kill(self, address: str) -> None:
        """End a node as a cloud does: all its processes at once."""
        self._ask(f"kill {address}")

    def until_nodes(self, count: int) -> None:
        """Wait until so many nodes are alive, with those that others started."""
        self._ask(f"until {count}")

    def end(self) -> None:
        """End all of it."""
        _pipe(self._process.stdin).close()
        self._process.wait(timeout=60)
        self._errors.close()
        self._folder.cleanup()

    def _ask(self, words: str) -> str:
        asked = _pipe(self._process.stdin)
        asked.write(f"{words}\n")
        asked.flush()
        return self._answer()

    def _answer(self) -> str:
        for line in _pipe(self._process.stdout):
            if line.startswith("= "):
                return line[2:].strip()
        self._errors.seek(0)
        raise RuntimeError(f"the cluster ended: {self._errors.read()[-2000:]}")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _hold(port: int, most_cpus: int) -> None:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    small: dict[str, Any] = {"object_store_memory": 100 * 2**20}
    head: dict[str, Any] = {
        "num_cpus": 0,
        "resources": {"driver": 1000, **({"most_cpus": most_cpus} if most_cpus else {})},
        "include_dashboard": True,
        "dashboard_port": port,
        **small,
    }
    cluster, nodes = Cluster(initialize_head=True, head_node_args=head), {}
    print("=", cluster.address, flush=True)
    for line in sys.stdin:
        what, address, *python_path = line.split()
        if what == "add":
            variables = {"PYTHONPATH": python_path[0]} if python_path else {}
            nodes[address] = cluster.add_node(num_cpus=1, node_ip_address=address, env_vars=variables, **small)
            print("=", nodes[address].node_id, flush=True)
        elif what == "until":
            until = time.monotonic() + _JOINING_SECONDS
            while len(cluster.global_state._live_node_ids()) < int(address):
                if time.monotonic() > until:
                    raise TimeoutError(f"{address} nodes are not there after {_JOINING_SECONDS} s")
                time.sleep(0.2)
            print("= there", flush=True)
        else:
            cluster.remove_node(nodes.pop(address), allow_graceful=False)
            print("= killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _hold(int(sys.argv[1]), int(sys.argv[2]))
