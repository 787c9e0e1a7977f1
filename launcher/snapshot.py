"""The code of a launch as it is now, for the workers of a cluster: whatever is edited while they run, all run the same."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGES = ("launcher", "trainables", "search_spaces")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "sample_audio")
"""The sample corpus is read by the launch alone."""
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@contextmanager
def taken() -> Iterator[Path | None]:
    """Copy the packages of this program, and the scripts beside the one that was started, into a folder for Ray to send.

    Yields:
        the folder, there for the time of the block; None in a job that brought its folder along: that is a copy already.
    """
    if json.loads(os.environ.get(_JOB) or "{}").get("runtime_env", {}).get("working_dir"):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="lossgrid-code-") as scratch:
        for package in _PACKAGES:
            found = importlib.util.find_spec(package)
            if found is None or not found.submodule_search_locations:
                raise ModuleNotFoundError(f"{package} is not there any more: was it moved while this launch started?")
            source = next(iter(found.submodule_search_locations))
            shutil.copytree(source, Path(scratch, package), ignore=_LEFT_OUT)
        for script in Path(sys.argv[0]).resolve().parent.glob("*.py"):  # a benchmark's training function is in one
            shutil.copy(script, scratch)
        yield Path(scratch)
