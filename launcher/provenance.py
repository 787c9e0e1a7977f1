"""With what a launch is made: code, versions, machine, command line. Secrets of the command line are not kept."""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from launcher import checkout, masking, results
from launcher.launches import UNKNOWN_PATCH

_PACKAGES = ("lossgrid", "ray", "torch", "transformers", "accelerate", "safetensors", "numpy", "scipy", "pandas", "pyarrow",
             "jiwer", "soundfile", "soxr")  # fmt: skip


def of_launch(out: Path, command: str, *, code: Path | None = None) -> dict[str, Any]:
    """Describe the launch that begins now; what differs from the commit is kept as `OUT/provenance/<hash>.patch`.

    Args:
        out: folder of the study.
        command: the command line.
        code: folder of the checkout; None: where this file lies.

    Returns:
        command, git_sha, git_patch (name of the patch; None when nothing differs), git_problem (why git did not tell, or
        None), python, packages, host, platform, cpu_count, started: ready for JSON.
    """
    found = checkout.state(code or Path(__file__).resolve().parent.parent, out=out)
    return {
        "command": masking.without_secrets(command),
        "git_sha": found.commit,
        "git_patch": UNKNOWN_PATCH if found.patch is None else _keep(found.patch, out),
        "git_problem": found.problem,
        "python": platform.python_version(),
        "packages": packages(),
        "host": host(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def packages() -> dict[str, str]:
    """Return the versions of the packages that can change a number, as far as they are installed."""
    found = ((name, _version(name)) for name in _PACKAGES)
    return {name: version for name, version in found if version is not None}


def host() -> str:
    """Return the name of this machine."""
    return platform.node()


def _keep(patch: bytes, out: Path) -> str | None:
    if not patch:
        return None
    name = f"{hashlib.sha256(patch).hexdigest()[:12]}.patch"
    path = out / "provenance" / name
    if not path.is_file():
        results.write_whole(path, lambda temporary: temporary.write_bytes(patch))
    return name


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
