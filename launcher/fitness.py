"""Is a node fit to run trials of a launch? What the node found out is compared with what the launch found out of itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from launcher.findings import FAULT, OK, WARNING, Finding
from launcher.masking import without_passwords
from launcher.quantities import size

_SAME = ("ray", "torch", "transformers", "accelerate")
"""Packages that a trial's numbers or its meeting with Ray hang on: another version is refused; of the others it is told."""
_SKEW_SECONDS, _WRONG_CLOCK_SECONDS = 2.0, 60.0
_LITTLE_BYTES = {"out": 5e9, "tmp": 2e9, "shm": 256e6}
_WHERE = {"out": "the folder of the study", "tmp": "the folder of temporary files", "shm": "/dev/shm"}
_AT = {"tmp": '"${TMPDIR:-/tmp}"', "shm": "/dev/shm"}
_CODE_ADVICE = (
    "give the launch as a job, which takes the code along: ray job submit --working-dir . -- python launch.py ...; "
    "or bring the node's image or checkout to the same commit"
)
Facts = Mapping[str, Any]


def judge(facts: Facts, launch: Facts, asked: Mapping[str, Any], *, gpus: float, skew: float = 0.0) -> list[Finding]:
    """Compare what a node said of itself with the launch.

    Args:
        facts: of the node, as `node.look` returned them.
        launch: the same of the launch.
        asked: what the node was asked; see `node.look`.
        gpus: that Ray counts there.
        skew: seconds that the node's clock is ahead of the launch's.

    Returns:
        findings; with one of the level "fault" no trial may run there.
    """
    found = [
        *_code(facts, launch), *_packages(facts, launch), *_gpus(facts, gpus), *_out(facts, asked),
        *_store(facts, asked), *_clock(skew), *_room(facts, asked),
    ]  # fmt: skip
    seen = "; it sees the study and its data" if asked["out"] else ""
    return [masked(one) for one in found] or [Finding(OK, "node", f"the same code and packages{seen}")]


def masked(finding: Finding) -> Finding:
    """Return a finding without passwords in addresses; what a node or Ray said of an error is part of it."""
    return replace(finding, text=without_passwords(finding.text), advice=without_passwords(finding.advice))


def _code(facts: Facts, launch: Facts) -> Iterator[Finding]:
    if facts["code"] is None:
        yield Finding(FAULT, "code", "lossgrid is not there", _CODE_ADVICE)
    elif facts["code"] != launch["code"]:
        yield Finding(
            FAULT, "code", f"its code is {_named(facts)}, the launch is {_named(launch)}: trials would differ", _CODE_ADVICE
        )  # fmt: skip


def _named(facts: Facts) -> str:
    commit = f", commit {facts['commit'][:12]}" if facts["commit"] else ""
    return f"lossgrid {facts['packages'].get('lossgrid', 'of no version')}{commit} (hash {facts['code']})"


def _packages(facts: Facts, launch: Facts) -> Iterator[Finding]:
    here, there = (tuple(one["python"].split(".")[:2]) for one in (launch, facts))
    if here != there:
        text = f"Python {facts['python']}, the launch {launch['python']}"
        version = ".".join(here)
        advice = f"make its environment with Python {version}: python{version} -m venv ...; or take the launch's image"
        yield Finding(FAULT, "python", text, advice)
    for name, version in launch["packages"].items():
        found = facts["packages"].get(name)
        if name == "lossgrid" or _public(found) == _public(version):
            continue  # of lossgrid the code itself is compared
        text = f"{name} {found or 'is not installed'}, the launch has {version}"
        level = FAULT if name in _SAME else WARNING
        yield Finding(level, "packages", text, f"on the node: pip install '{name}=={_public(version)}'")


def _public(version: str | None) -> str | None:
    """Leave out what a build adds: torch 2.13.0+cpu on the head and 2.13.0+cu130 on a GPU node are one version."""
    return version and version.partition("+")[0]


def _gpus(facts: Facts, gpus: float) -> Iterator[Finding]:
    seen = facts["gpu"]
    if seen is None or seen["sees"] >= int(gpus):
        return
    why = seen.get("failed") or (
        f"torch {facts['packages'].get('torch')} is built for {seen['build']}" if seen["build"] else "torch is built for CPUs alone"
    )  # fmt: skip
    text = f"Ray counts {gpus:g} GPUs, torch sees {seen['sees']} ({why}; driver: {seen['driver'] or 'no nvidia-smi'})"
    torch = f"torch=={_public(facts['packages'].get('torch'))}" if "torch" in facts["packages"] else "torch"
    mend = {
        "driver": "nvidia-smi, which must list the GPUs: install the driver; in a container, give it the GPUs (--gpus all)",
        "torch": f"pip install --force-reinstall '{torch}' (on Linux that is a build for CUDA)",
        "both": "nvidia-smi, which must list all GPUs with a driver that is new enough for torch; and echo $CUDA_VISIBLE_DEVICES",
    }
    what = "driver" if not seen["driver"] else "torch" if not seen["build"] else "both"
    yield Finding(FAULT, "gpu", text, f"on the node: {mend[what]}")


def _out(facts: Facts, asked: Mapping[str, Any]) -> Iterator[Finding]:
    if (found := facts["out"]) is None:
        return
    out, is_uri = without_passwords(asked["out"]), "://" in asked["out"]
    if is_uri:
        shared = writable = (
            f"on the node: python launch.py status {shlex.quote(out)}; keys are those of the node's role, or in ~/.aws/credentials"
        )
    else:
        shared = f"on the node: df {shlex.quote(out)}; mount there what all nodes share (NFS, EFS, Lustre), or give --out a URI"
        writable = f"on the node: ls -ld {shlex.quote(out)}; give the user that Ray runs as the right to write there"
    if found["read"] in ("missing", "other"):
        yield Finding(FAULT, "out", f"{out} is not the folder that the launch writes to, but one of its own", shared)
    elif found["read"] != "same":
        yield Finding(FAULT, "out", f"{out} cannot be read there ({found['read']})", shared)
    elif "failed" in found:
        yield Finding(FAULT, "out", f"{out} cannot be written to there ({found['failed']})", writable)
    elif not found.get("seen", True):
        yield Finding(FAULT, "out", f"the launch does not see what the node wrote into {out}", shared)


def _store(facts: Facts, asked: Mapping[str, Any]) -> Iterator[Finding]:
    found, store = facts["store"], asked["store"]
    if found is None or store is None or (facts["out"]["read"] != "same" and store.startswith(asked["out"])):
        return  # not asked for; or missing because the whole folder is another one, which is told already
    file = shlex.quote(f"{store}/store.json")
    advice = "put the store into a folder that all nodes share"
    if "failed" in found:
        text = f"the store {store} cannot be opened there ({found['failed']})"
        yield Finding(FAULT, "data", text, f"on the node: ls -l {file}; {advice}")
    elif found["fingerprint"] != asked["fingerprint"]:
        text = f"the store {store} holds other data there"
        yield Finding(FAULT, "data", text, f"here and on the node: sha256sum {file}; {advice}")


def _clock(skew: float) -> Iterator[Finding]:
    if abs(skew) > _SKEW_SECONDS:
        level = FAULT if abs(skew) > _WRONG_CLOCK_SECONDS else WARNING
        text = f"its clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the launch's: tables mix both"
        yield Finding(level, "clock", text, "set it by NTP: timedatectl set-ntp true")


def _room(facts: Facts, asked: Mapping[str, Any]) -> Iterator[Finding]:
    for name, free in facts["disk"].items():
        if free < _LITTLE_BYTES[name]:
            where = shlex.quote(asked["out"]) if name == "out" else _AT[name]
            more = "; in a container, start it with a larger --shm-size" if name == "shm" else ""
            advice = f"on the node: df -h {where}; make room there{more}"
            yield Finding(WARNING, "disk", f"{size(free)} are free in {_WHERE[name]}", advice)
