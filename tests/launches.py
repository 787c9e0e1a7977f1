"""What tests of whole studies on a real Ray share: the command, in a process of its own with a home of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUDY = ("--set", "reduction=mean", "--set", "seed=1", "--set", "num_train_epochs=3", "--set", "groups=group")
DEADLINE_SECONDS = 240


def environment(home: Path) -> dict[str, str]:
    """Without the cluster, and the token, of whoever runs the tests."""
    home.mkdir(exist_ok=True)
    dropped = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    return {**{name: value for name, value in os.environ.items() if name not in dropped}, "HOME": str(home)}


def start(folder: Path, data: Path, *words: str, variables: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Give the command of a study; what else is asked for comes in words.

    Args:
        folder: of the study.
        data: its manifest.
        words: of the command.
        variables: environment; None: one with a home beside the folder.
    """
    command = [sys.executable, str(ROOT / "launch.py"), "--grid", "losses", "--data", str(data), "--out", str(folder)]
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=variables or environment(folder.parent / "home"),
    )  # fmt: skip


@contextmanager
def head(variables: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Have a cluster that is there already, with more logical CPUs than this machine has; gives its address, and the environment."""
    variables = {**variables, "RAY_USAGE_STATS_ENABLED": "0"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=4",
               '--resources={"driver": 10}', "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
               f"--dashboard-port={port + 1}"]  # fmt: skip
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_it_answers([command[0], "status", f"--address=127.0.0.1:{port}"], variables)
        yield f"127.0.0.1:{port}", variables
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_it_answers(command: list[str], variables: dict[str, str]) -> None:
    for _ in range(30):
        if subprocess.run(command, env=variables, capture_output=True).returncode == 0:
            return
    pytest.fail("the cluster did not come up")
