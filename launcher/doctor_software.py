"""Python, the packages and torch with its devices, as `doctor` looks at them."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from launcher.findings import FAULT, OK, WARNING, Finding
from launcher.quantities import size

_SECONDS_FOR_TORCH, _SECONDS_FOR_NVIDIA_SMI = 180, 20
# Loaded elsewhere: a torch that crashes or hangs must not take the doctor with it.
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({
    "version": torch.__version__, "build": torch.version.cuda or torch.version.hip,
    "kernels": torch.cuda.get_arch_list() if cuda and not torch.version.hip else [],
    "devices": [{"name": d.name, "memory_bytes": d.total_memory, "capability": [d.major, d.minor]} for d in devices],
    "bf16": cuda and torch.cuda.is_bf16_supported(),
}))
"""


@dataclass(frozen=True)
class Card:
    """A GPU as the driver lists it, whatever torch can do with it."""

    name: str
    driver: str
    memory_bytes: float
    used_bytes: float


def python(version: tuple[int, int] = sys.version_info[:2], bits: int = sys.maxsize.bit_length() + 1) -> list[Finding]:
    """Look at the interpreter: its version, and whether it is one of 64 bit."""
    about = metadata.metadata("ray")
    classifiers = about.get_all("Classifier") or []
    known = [text.rpartition(" ")[2].split(".") for text in classifiers if "Python :: 3." in text]
    newest = max((int(major), int(minor)) for major, minor in known)
    name = f"Python {version[0]}.{version[1]}, {bits} bit, on {platform.system()}"
    if version < (3, 10) or bits < 64:
        return [Finding(FAULT, "python", f"{name}; needed: 3.10 or newer, 64 bit", "make the environment anew with it")]
    if version > newest:
        known_by_ray = f"Ray {about['Version']} knows Python up to {newest[0]}.{newest[1]}"
        return [Finding(FAULT, "python", f"{name}; {known_by_ray}", "make the environment anew with such a Python")]
    if sys.platform == "win32":
        return [Finding(FAULT, "python", f"{name}; the folder of a study is locked by POSIX means", "use WSL 2")]
    return [Finding(OK, "python", f"{name} ({sys.executable})")]


def packages(distribution: str = "lossgrid") -> list[Finding]:
    """Compare what is installed with what this program asks for."""
    try:
        wanted = [Requirement(text) for text in metadata.requires(distribution) or ()]
    except metadata.PackageNotFoundError:
        text = f"{distribution} itself is not installed, so nothing says which versions it was written for"
        return [Finding(WARNING, "packages", text, "in its folder: pip install --editable .")]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    found = [finding for one in wanted for finding in _requirement(one)]
    return found or [
        Finding(OK, "packages", f"all {len(wanted)} that {distribution} asks for, in versions that it allows")
    ]


def _requirement(wanted: Requirement) -> Iterator[Finding]:
    advice = f"pip install '{wanted}'"
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        yield Finding(FAULT, "packages", f"{wanted.name} is not installed; needed: {wanted}", advice)
        return
    if not wanted.specifier.contains(version, prereleases=True):
        # An exact pin has a reason: nodes of a cluster refuse another version of Ray.
        level = FAULT if "==" in str(wanted.specifier) else WARNING
        yield Finding(level, "packages", f"{wanted.name} {version} is installed; wanted: {wanted.specifier}", advice)
    for extra in sorted(wanted.extras):
        parts = (Requirement(text) for text in metadata.requires(wanted.name) or ())
        missing = [part.name for part in parts if _belongs(part, extra) and not _is_installed(part.name)]
        if missing:
            text = f"{wanted.name}[{extra}] is not whole: {', '.join(dict.fromkeys(missing))} is not installed"
            yield Finding(FAULT, "packages", text, advice)


def _belongs(part: Requirement, extra: str) -> bool:
    return (
        part.marker is not None and part.marker.evaluate({"extra": extra}) and not part.marker.evaluate({"extra": ""})
    )


def _is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def torch(seconds: float = _SECONDS_FOR_TORCH) -> list[Finding]:
    """Load torch in a process of its own and look at its build and devices."""
    try:
        done = subprocess.run([sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        text = f"torch was not loaded within {seconds:.0f} s"
        return [Finding(WARNING, "torch", text, "is the environment on a slow disk, or a GPU in a bad state?")]
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [Finding(FAULT, "torch", f"cannot be loaded: {last}", "pip install --force-reinstall torch")]
    return torch_findings(json.loads(done.stdout.splitlines()[-1]), cards())


def cards() -> list[Card]:
    """List the GPUs that nvidia-smi sees; none where there is no nvidia-smi.

    Raises:
        RuntimeError: nvidia-smi is there and fails.
    """
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    asked = "--query-gpu=name,driver_version,memory.total,memory.used"
    done = subprocess.run(
        [program, asked, "--format=csv,noheader,nounits"], capture_output=True, text=True,
        timeout=_SECONDS_FOR_NVIDIA_SMI,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"nvidia-smi fails: {(done.stdout + done.stderr).strip()}; is the driver loaded?")
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    # A card that is cut into instances says [N/A] for its memory.
    memory = [[float(text) * 2**20 if text.isdigit() else 0.0 for text in row[2:4]] for row in rows]
    return [Card(row[0], row[1], total, used) for row, (total, used) in zip(rows, memory, strict=True)]


def torch_findings(torch: Mapping[str, Any], cards: Sequence[Card]) -> list[Finding]:
    """Say what torch and the driver make of each other.

    Args:
        torch: version, build (of CUDA or ROCm; None: for CPUs alone), kernels, devices, bf16.
        cards: what the driver lists.
    """
    build = f"for GPUs, {torch['build']}" if torch["build"] else "for CPUs alone"
    name = f"torch {torch['version']} (built {build})"
    if torch["devices"]:
        return [Finding(OK, "torch", name), *_devices(torch), *_busy(cards)]
    if not cards:
        return [Finding(OK, "torch", f"{name}, no GPU here: trials run on cores")]
    listed = f"nvidia-smi lists {len(cards)} GPUs ({cards[0].name}, driver {cards[0].driver})"
    if torch["build"] is None:
        advice = "pip install --force-reinstall torch (on Linux that is a build for CUDA), or leave the GPUs idle"
        return [Finding(WARNING, "torch", f"{name}, and {listed}: trials would run on cores", advice)]
    advice = "a newer driver, or torch for an older CUDA (pytorch.org/get-started); is CUDA_VISIBLE_DEVICES set?"
    return [Finding(WARNING, "torch", f"{name} sees no device, and {listed}: trials would run on cores", advice)]


def _devices(torch: Mapping[str, Any]) -> Iterator[Finding]:
    oldest = min((int(name[3:].rstrip("af")) for name in torch["kernels"] if name.startswith("sm_")), default=0)
    for number, device in enumerate(torch["devices"]):
        major, minor = device["capability"]
        bf16 = "bf16" if torch["bf16"] else "no bf16 (use fp16 or fp32)"
        text = f"{number}: {device['name']}, {size(device['memory_bytes'])}, capability {major}.{minor}, {bf16}"
        if 10 * major + minor < oldest:
            advice = f"install a torch that still knows it: this one begins at {oldest / 10:.1f}"
            yield Finding(FAULT, "gpu", f"{text}; this torch has no kernels for it", advice)
        else:
            yield Finding(OK, "gpu", text)


def _busy(cards: Sequence[Card]) -> Iterator[Finding]:
    for number, card in enumerate(cards):
        if card.used_bytes > card.memory_bytes / 2:
            text = f"{number}: {size(card.used_bytes)} of {size(card.memory_bytes)} are in use by others"
            yield Finding(WARNING, "gpu", text, "nvidia-smi names them; CUDA_VISIBLE_DEVICES leaves this one out")
