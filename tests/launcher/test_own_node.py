"""The process that schedules trials ends when its node of Ray does. Real Ray, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from launches import DEADLINE_SECONDS, ROOT, environment

_DRIVER = """
import os, secrets, sys, threading
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
import psutil, ray
from launcher import own_node
ray.init(address="local", include_dashboard=False, num_cpus=1, log_to_driver=False, logging_level="ERROR")
with own_node.watched(0.2):
    assert all(node["Alive"] for node in ray.nodes())
print("the block ends", flush=True)
with own_node.watched(0.2):
    (one,) = [one for one in psutil.Process().children(recursive=True) if sys.argv[1] in " ".join(one.cmdline())]
    one.kill()
    threading.Event().wait()  # for ever, as trials wait that no node can take
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("victim", ["raylet/raylet", "runtime_env/agent"])
def test_a_driver_whose_node_is_gone_ends(tmp_path: Path, victim: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, victim], capture_output=True, text=True, cwd=ROOT,
        env=environment(tmp_path / "home"), timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("the block ends\n")
    assert "the node of Ray that schedules the trials is gone" in done.stderr
