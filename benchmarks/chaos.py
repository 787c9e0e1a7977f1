"""Kill processes of running studies at random; then nothing may be lost, repeated or different.

    python benchmarks/chaos.py --rounds 10 --backend tune --data MANIFEST.csv

An undisturbed study is the reference. In each round the same study runs in a new folder: a random process of it (the
driver, the raylet, the store of the cluster's state, a trial, a worker, a helper) gets SIGKILL at a random time, up to three
of them; when the launch ends before its time, the same command is given again. In the end every table has to be the
reference's, but for times, hosts and attempts, and files of trials that had finished before a kill have to be untouched.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from launcher import results

ROOT = Path(__file__).resolve().parents[1]
STUDY = ("--set", "reduction=sum,mean", "--set", "num_train_epochs=6", "--set", "groups=group",
         "--set", "save_strategy=steps", "--set", "save_steps=2")  # fmt: skip
TIME_LIMIT_SECONDS, POLL_SECONDS, _MOST_TRIES = 600, 0.05, 4
_NOT_COMPARED = ("seconds", "started", "finished", "node", "host", "attempts", "broken_off", "peak_memory_bytes",
                 "audio_seconds_per_second", "study", "command", "git_patch", "git_sha", "mixed_code", "packages", "launched",
                 "device_seconds", "earlier_device_seconds", "untimed_attempts")  # fmt: skip


@dataclass
class Round:
    """What happened in one round.

    Attributes:
        killed: what each process was that got SIGKILL, with the time since the launch in seconds.
        launches: how often the command was given.
        hung: launches that made no end of themselves.
        faults: what was lost, repeated or different; empty when all is well.
    """

    killed: list[tuple[str, float]] = field(default_factory=list)
    launches: int = 0
    hung: int = 0
    faults: list[str] = field(default_factory=list)


def main(words: Sequence[str] | None = None) -> int:
    """Run the rounds, print what happened, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", choices=["train", "tune"], default="tune")
    parser.add_argument("--data", default="sample")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--victims", default="", help="kill only what has this in its name, for example raylet")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "chaos.json")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="lossgrid-chaos-") as scratch:
        rounds = run(Path(scratch), given.data, given.backend, given.rounds, given.seed, given.victims)
    for number, one in enumerate(rounds):
        kills = ", ".join(f"{name} at {when:.0f} s" for name, when in one.killed)
        print(
            f"round {number}: {one.launches} launches, {one.hung} hung; killed: {kills}; faults: {one.faults or 'none'}"
        )
    kinds = Counter(name for one in rounds for name, _ in one.killed)
    faults = sum(len(one.faults) for one in rounds)
    print(f"{len(rounds)} rounds, {sum(kinds.values())} kills ({dict(kinds)}): {faults} faults")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([vars(one) for one in rounds], indent=1), encoding="utf-8")
    return 1 if faults else 0


def run(
    scratch: Path, data: str, backend: str, rounds: int, seed: int, victims: str = "", seeds: str = "1,2"
) -> list[Round]:
    """Run an undisturbed study and so many disturbed ones; `seeds` are those of the study, two trials each."""
    began = time.monotonic()
    reference = scratch / "reference"
    process = launch(reference, data, backend, seeds)
    if process.wait(TIME_LIMIT_SECONDS):
        raise RuntimeError(f"the undisturbed study failed: {(scratch / 'reference.log').read_text()}")
    lasts = time.monotonic() - began
    draw = random.Random(seed)
    done = []
    for number in range(rounds):
        for attempt in range(_MOST_TRIES):
            folder, began = scratch / f"round-{number}-{attempt}", time.monotonic()
            happened = _disturb(folder, data, backend, draw, lasts, victims, seeds)
            happened.faults += compare(reference, folder)
            print(f"round {number}: {happened}", file=sys.stderr, flush=True)
            if happened.killed or happened.faults:
                break
            lasts = min(lasts, time.monotonic() - began)  # all moments were drawn beyond its end: it tells nothing
        done.append(happened)
    return done


def launch(folder: Path, data: str, backend: str, seeds: str) -> subprocess.Popen[str]:
    """Give the command; what it says goes to a file beside the folder."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    dropped = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    env = {name: value for name, value in os.environ.items() if name not in dropped} | {"HOME": str(home)}
    command = [sys.executable, str(ROOT / "launch.py"), "--grid", "losses", "--data", data, "--out", str(folder)]
    with folder.with_suffix(".log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [*command, "--backend", backend, *STUDY, "--set", f"seed={seeds}"],
            cwd=ROOT, env=env, text=True, stdout=log, stderr=log,
        )  # fmt: skip


def _disturb(
    folder: Path, data: str, backend: str, draw: random.Random, lasts: float, victims: str, seeds: str
) -> Round:
    """Run one study to its end, with up to three kills."""
    happened, kills = Round(), draw.randint(1, 3)
    finished: dict[str, str] = {}
    while True:
        process = launch(folder, data, backend, seeds)
        happened.launches += 1
        began = time.monotonic()
        at = began + draw.uniform(0.05, 0.8) * lasts if len(happened.killed) < kills else float("inf")
        while process.poll() is None:
            if time.monotonic() > at:
                finished |= hashes(folder)
                name = _kill_one(process.pid, draw, victims)
                if name is None:
                    at += 0.2
                else:
                    happened.killed.append((name, round(time.monotonic() - began, 1)))
                    more = len(happened.killed) < kills
                    at = time.monotonic() + draw.uniform(0.05, 0.8) * lasts if more else float("inf")
            if time.monotonic() - began > TIME_LIMIT_SECONDS:
                happened.hung += 1
                happened.faults.append(f"no end after {TIME_LIMIT_SECONDS} s")
                _end(process)
            time.sleep(POLL_SECONDS)
        if process.returncode == 0 or happened.launches > 10:
            break
        if process.returncode == 3:
            happened.faults.append("a trial failed")
            break
    now = hashes(folder)
    happened.faults += [
        f"{name} was finished and was touched" for name, sha in finished.items() if now.get(name) != sha
    ]
    if process.returncode not in (0, 3):
        happened.faults.append(f"exit code {process.returncode} after {happened.launches} launches")
    return happened


def _kill_one(driver: int, draw: random.Random, victims: str) -> str | None:
    """Kill a process of a study.

    Returns:
        what it was; None when there was none to choose.
    """
    try:
        family = [psutil.Process(driver), *psutil.Process(driver).children(recursive=True)]
        named = sorted((_name(one, driver), one.pid) for one in family)
    except psutil.NoSuchProcess:
        return None
    chosen = [(name, pid) for name, pid in named if victims in name]
    if not chosen:
        return None
    kind = draw.choice(sorted({name for name, _ in chosen}))  # a rare process as often as a common one
    pid = draw.choice([pid for name, pid in chosen if name == kind])
    try:
        psutil.Process(pid).kill()
    except psutil.NoSuchProcess:
        return None
    return kind


def _name(process: psutil.Process, driver: int) -> str:
    if process.pid == driver:
        return "driver"
    words = process.cmdline()
    if not words:
        return "ended"
    text = " ".join(words)
    for known in ("raylet/raylet", "gcs_server", "dashboard/dashboard.py", "dashboard/agent.py", "runtime_env/agent",
                  "log_monitor", "monitor.py", "default_worker.py", "resource_tracker"):  # fmt: skip
        if known in text:
            return known.rpartition("/")[2]
    if words[0].startswith("ray-dashboard-"):
        return "dashboard"
    if "multiprocessing.spawn" in text:
        return "scheduler"
    return words[0].split(".")[0] if words[0].startswith("ray::") else Path(words[0]).name


def hashes(folder: Path) -> dict[str, str]:
    """Hash what each finished trial has measured."""
    known = {}
    for result in folder.glob("trials/*/result.json"):
        whole = hashlib.sha256()
        for file in [*sorted(result.parent.glob("*.parquet")), result]:
            whole.update(file.name.encode() + file.read_bytes())
        known[result.parent.name] = whole.hexdigest()
    return known


def compare(reference: Path, folder: Path, *, some: bool = False) -> list[str]:
    """Say in which tables a study differs from the reference, or from the same trials of it where it has only some."""
    faults = []
    ours, theirs = results.load(folder), results.load(reference)
    asked = set(ours.results["trial_id"])
    for part in ("results", "utterances", "history", "shares", "audit"):
        frames = []
        for tables in (ours, theirs):
            frame: pd.DataFrame = getattr(tables, part)
            if some and "trial_id" in frame.columns:
                frame = frame[frame["trial_id"].isin(asked)]
            kept = frame.drop(columns=[name for name in _NOT_COMPARED if name in frame.columns])
            frames.append(kept.reset_index(drop=True))
        try:
            pd.testing.assert_frame_equal(*frames, check_exact=True)
        except AssertionError as error:
            faults.append(f"{part}: {' '.join(str(error).split())}")
    return faults


def _end(process: subprocess.Popen[str]) -> None:
    """End a launch and all that it started, by their numbers."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in family:
        if one.is_running():
            one.kill()
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
