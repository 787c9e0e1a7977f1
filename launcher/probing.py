"""`--plan --probe`: try the first missing trial for a few updates in a process of its own, and read off what trials cost."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import handover, results
from launcher.disk_estimate import Sizes
from launcher.estimate import TRAINER, Sample, Sections, Spread
from launcher.study import Prepared, Study, Trial

# What Ray Train adds to the start of the process: its controller and the placement.
_RAY_TRAIN_SECONDS = 5.0
_LAST_LINES = 3


@dataclass(frozen=True)
class Probe:
    """What a short try of a trial measured.

    Attributes:
        sections: configuration of the trial.
        found: see `trainables.probe.measure`.
        seconds: of the whole probe.
        start_up_seconds: from the start of the process until the first update could begin.
    """

    sections: Sections
    found: Mapping[str, Any]
    seconds: float
    start_up_seconds: float

    def start_up(self, backend: str) -> float:
        """Return the seconds from one trial to the next: with Ray Train each has a process of its own."""
        return self.start_up_seconds + _RAY_TRAIN_SECONDS if backend == "train" else 0.0

    def first(self, backend: str) -> float:
        """Return the seconds before the first trial on a device: without Ray Train its process serves all of them."""
        return 0.0 if backend == "train" else self.start_up_seconds

    @property
    def sizes(self) -> Sizes:
        """What the trial would take on the disk, as far as a few updates tell."""
        return Sizes(self.found.get("checkpoint_bytes"), self.found.get("model_bytes"))

    @property
    def sample(self) -> Sample:
        """What the whole trial would take."""
        each = self.found.get("update_seconds") or [0.0]
        ordered = sorted(each)
        middle = ordered[len(ordered) // 2] if len(ordered) % 2 else sum(ordered) / len(ordered)
        return Sample(self.sections, Spread(*(self._total(value) for value in (ordered[0], middle, ordered[-1]))))

    def _total(self, update_seconds: float) -> float:
        found, given = self.found, self.sections[TRAINER]
        trains = given.get("do_train") is not False
        updates = self.updates
        scored, times = found["scored_utterances"], 2 if trains else 1  # before and after training
        utterances = times * (scored + found["audited_utterances"])
        utterances += found["validation_utterances"] * _events(given, "eval", updates, self._epochs)
        saves = _events(given, "save", updates, self._epochs) if trains else 0
        return (
            found["build_seconds"]
            + updates * update_seconds
            + utterances * (found["evaluation_seconds"] or 0.0)
            + saves * (found.get("checkpoint_seconds") or 0.0)
        )

    @property
    def updates(self) -> int:
        """Updates of the whole trial."""
        given = self.sections[TRAINER]
        if given.get("do_train") is False:
            return 0
        steps = given.get("max_steps") or -1
        return steps if steps > 0 else math.ceil(self._epochs * self.found["updates_per_epoch"])

    @property
    def _epochs(self) -> float:
        given, per_epoch = self.sections[TRAINER], self.found["updates_per_epoch"]
        steps = given.get("max_steps") or -1
        return steps / max(1, per_epoch) if steps > 0 else given.get("num_train_epochs", 3.0)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**self.found, "probe_seconds": self.seconds, "start_up_seconds": self.start_up_seconds}


def run(study: Study, trial: Trial, data: Prepared) -> Probe:
    """Try a trial; everything that it writes goes to a temporary folder and is removed.

    Raises:
        ResultsError: the process failed; the message ends in what it said last.
    """
    with tempfile.TemporaryDirectory(prefix="lossgrid-probe-") as scratch:
        job, result = Path(scratch) / "job.json", Path(scratch) / "result.json"
        told = handover.job(study, trial, data, Path(scratch), Path(scratch) / "stop")
        more = {"tensorboard": None, "threads": 1, "launch": "", "spawned": time.time()}
        results.write_json(job, {**told, **more})
        root = Path(__file__).resolve().parents[1]
        path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", study.probe, str(job), str(result)], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            said = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:]) or f"exit code {done.returncode}"
            raise results.ResultsError(
                f"--probe: {trial.trial_id} cannot be tried, and would fail as a trial too: {said}"
            )
        found = json.loads(result.read_text(encoding="utf-8"))
    return Probe(trial.configuration.as_dict(), found, seconds, found.pop("start_up_seconds"))


def _events(given: Mapping[str, Any], kind: str, updates: int, epochs: float) -> int:
    """Count how often a trial evaluates ("eval") or saves ("save")."""
    default = "no" if kind == "eval" else "steps"
    strategy = given.get(f"{kind}_strategy", default)
    if strategy in ("no", None):
        return 0
    if strategy == "epoch":
        return math.ceil(epochs)
    every = given.get(f"{kind}_steps") or (given.get("logging_steps") if kind == "eval" else None) or 500
    return updates // max(1, math.ceil(every * updates) if every < 1 else int(every))
