"""With which versions a worker measured what it writes; on a cluster they may be others than the launcher's."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

_PACKAGES = ("lossgrid", "ray", "torch", "transformers", "accelerate", "safetensors", "numpy", "scipy", "pandas", "pyarrow",
             "jiwer", "soundfile", "soxr")  # fmt: skip


def of_worker() -> dict[str, Any]:
    """Return python, and packages: their versions as far as they are installed, with that of CUDA where torch has it."""
    installed = {name: _version(name) for name in _PACKAGES}
    found = {**installed, "cuda": torch.version.cuda}
    return {
        "python": platform.python_version(),
        "packages": {name: version for name, version in found.items() if version is not None},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
