"""What tests of whole studies on a real Ray share: the command, in a process of its own with a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
