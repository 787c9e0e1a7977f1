"""Where and with what a study was run."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("lossgrid", "ray", "torch", "transformers", "accelerate", "numpy", "pyarrow", "pandas", "jiwer", "soxr")


def describe() -> dict[str, Any]:
    """Return Python, package versions, commit, host and cores."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "git_sha": git_sha(),
        "host": host(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
    }


def git_sha() -> str | None:
    """Return the commit of this code, with `-dirty` behind it when files differ; None outside a git checkout."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    sha = _git(folder, "rev-parse", "HEAD")
    return None if sha is None else sha + ("-dirty" if _git(folder, "status", "--porcelain", "-uno") else "")


def host() -> str:
    """Return the name of this machine."""
    return platform.node()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """Ask git; None when there is no git or it refuses (for example a checkout of another user)."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
