"""What a node of a cluster is: looked at on the node itself, by code that the launch sends along.

Only the standard library is imported at the top: a node that lacks a package, or has other code, is to answer all the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_CODE = ("launcher", "trainables")
_PACKAGES = ("lossgrid", "ray", "torch", "transformers", "accelerate", "safetensors", "numpy", "scipy", "pandas", "pyarrow",
             "jiwer", "soundfile", "soxr")  # fmt: skip
_SECONDS_FOR_GIT, _SECONDS_FOR_TORCH, _SECONDS_FOR_FILE = 10, 90, 5.0
_POLL_SECONDS = 0.2
# Elsewhere: a torch that crashes or hangs must not take the answer with it.
_ASK_TORCH = """
import json, torch
print(json.dumps({"build": torch.version.cuda or torch.version.hip, "sees": torch.cuda.device_count()}))
"""


def look(asked: Mapping[str, Any], gpus: float, *, works: bool) -> dict[str, Any]:
    """Look at the node that this is called on.

    Args:
        asked: of a launch: out (folder of the study, or its URI, or None), key (name of the file in it that the launch wrote) and
            secret (what it holds), answers (whether to
            write one), store (folder of the prepared data, or None).
        gpus: that Ray counts here; torch is asked only where there are some.
        works: trials train here; else only their drivers run, and the data are not looked at.

    Returns:
        plain values: host, python, packages, code, commit, gpu, out, store, disk, time.
    """
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "code": code(),
        "commit": _commit(),
        "gpu": _gpu() if gpus >= 1 else None,
        "out": meet(asked["out"], asked["key"], asked["secret"], answers=asked["answers"]) if asked["out"] else None,
        "store": _fingerprint(asked["store"]) if works and asked["store"] else None,
        "disk": _free(asked["out"]),
        "time": time.time(),
    }


def code(root: Path | None = None) -> str | None:
    """Hash the source of the launcher and the trainables; None where it is not found.

    Args:
        root: where the packages lie; None: where Python finds them here.
    """
    whole = hashlib.sha256()
    for package in _CODE:
        folder = root / package if root is not None else _folder(package)
        if folder is None:
            return None
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
        for name in sorted(files):
            whole.update(f"{package}/{name}\0".encode() + files[name].read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def _folder(package: str) -> Path | None:
    found = importlib.util.find_spec(package)
    places = (found and found.submodule_search_locations) or ()
    return next((Path(place) for place in places), None)


def meet(out: str, key: str, secret: str, *, answers: bool = True) -> dict[str, Any]:
    """Read what the launch wrote into the folder of the study, and write an answer beside it for the launch to read.

    A folder of the same path that is the node's own has no such file, or one with something else in it.

    Args:
        out: folder, or URI of one.
        key: name of the file; `<key>-<answer's name>` is written.
        secret: its content.
        answers: whether to write.

    Returns:
        read: "same", "other", "missing" or an error; answer: name of the file that was written, content: what is in it;
        where none could be written, failed: the error. may_pass: it is an error of the storage that may pass.
    """
    told = {"answer": f"{key}-{hashlib.sha256(os.urandom(16)).hexdigest()[:16]}", "content": os.urandom(16).hex()}
    try:
        found = read(out, key)
    except Exception as error:  # of many kinds: sent back as text, because some cannot be pickled
        return {"read": _first_line(error), **_passing(error)}
    told["read"] = "missing" if found is None else "same" if found == secret else "other"
    if told["read"] != "same" or not answers:  # nothing is written into a folder that is not ours
        return {"read": told["read"]}
    try:
        _write(out, told["answer"], told["content"])
    except Exception as error:
        return {"read": "same", "failed": _first_line(error), **_passing(error)}
    return told


def _passing(error: Exception) -> dict[str, bool]:
    """Note that the storage may be away for a while, which is no fault of this node (`launcher.retries.StorageError`)."""
    return {"may_pass": True} if getattr(error, "may_pass", False) else {}


def read(out: str, name: str) -> str | None:
    """Read a small file; a file system on the network may show a new one a moment later."""
    if "://" in out:
        from launcher.mirror import Mirror

        with tempfile.TemporaryDirectory(prefix="lossgrid-node-") as scratch:
            content = Mirror(out, Path(scratch), is_known=True).read(name)
        return None if content is None else content.decode()
    path, until = Path(out, name), time.monotonic() + _SECONDS_FOR_FILE
    while not path.is_file():
        if not path.parent.is_dir() or time.monotonic() > until:
            return None
        time.sleep(_POLL_SECONDS)
    return path.read_text(encoding="utf-8")


def _write(out: str, name: str, content: str) -> None:
    if "://" in out:
        from launcher.mirror import Mirror

        with tempfile.TemporaryDirectory(prefix="lossgrid-node-") as scratch:
            Mirror(out, Path(scratch)).write(name, content.encode())
        return
    with Path(out, name).open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fingerprint(store: str) -> dict[str, str]:
    try:
        return {"fingerprint": json.loads(Path(store, "store.json").read_text(encoding="utf-8"))["fingerprint"]}
    except (OSError, ValueError, KeyError) as error:
        return {"failed": _first_line(error)}


def _free(out: str | None) -> dict[str, float]:
    """Return the free bytes of where the study, temporary files and shared memory are."""
    places = {"tmp": tempfile.gettempdir(), "shm": "/dev/shm", **({"out": out} if out and "://" not in out else {})}
    return {name: float(shutil.disk_usage(place).free) for name, place in places.items() if Path(place).is_dir()}


def _gpu() -> dict[str, Any]:
    """Ask torch and the driver which GPUs they see; Ray hides them from a task that was given none."""
    environment = {name: value for name, value in os.environ.items() if (name, value) != ("CUDA_VISIBLE_DEVICES", "")}
    asked = [sys.executable, "-c", _ASK_TORCH]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_SECONDS_FOR_TORCH, env=environment)
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        seen = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": last[:300]}
    except subprocess.TimeoutExpired:
        seen = {"failed": f"torch was not loaded within {_SECONDS_FOR_TORCH} s"}
    return {"sees": 0, "build": None, **seen, "driver": _driver()}


def _driver() -> str | None:
    if (program := shutil.which("nvidia-smi")) is None:
        return None
    asked = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_SECONDS_FOR_GIT)
    except subprocess.TimeoutExpired:
        return "nvidia-smi does not answer"
    return "; ".join(dict.fromkeys((done.stdout or done.stderr).strip().splitlines()))[:300]


def _commit() -> str | None:
    """Return the commit of the checkout that the code lies in, where it is one and git is there."""
    folder = _folder("launcher")
    if folder is None or not (folder.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder.parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=_SECONDS_FOR_GIT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    told = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if "://" in told:
        from launcher.masking import without_passwords

        told = without_passwords(told)  # before it is cut: half of an address would not look like one
    return told[:300]
