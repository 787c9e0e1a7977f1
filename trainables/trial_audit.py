"""The audits of one trial: of its model before and after training, each made once and shared by all trials of a study."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import distributed, sampling, tables
from trainables.audit import Auditor, Precision
from trainables.shares import presets
from trainables.trial import Trial

PARTS = ("shares", "exact", "cosines", "audit")
"""Tables of an audit; in a trial's folder each holds the rows of both phases."""


@dataclass(frozen=True)
class TrialAudit:
    """Audits the model of a trial.

    Attributes:
        trial: what was asked for.
        auditor: measures a model.
        model: the model, trained in place between two calls.
        device: where it is.
        precision: makes the autocast context of one forward.
    """

    trial: Trial
    auditor: Auditor
    model: Wav2Vec2ForCTC
    device: torch.device
    precision: Precision

    def run(self, phase: str) -> dict[str, str]:
        """Audit the model as it is now, or find the audit that another trial made of the same model.

        Args:
            phase: initial or final.

        Returns:
            phase and key of the audit. An audit whose key the trial has noted (it is resumed) is not looked for again.
        """
        noted = self.trial.folder / f"audit-{phase}.json"
        if noted.is_file():
            return json.loads(noted.read_text(encoding="utf-8"))
        key = self.auditor.key(self.model, str(self.device.type), str(self._dtype()))
        folder = self.trial.audits / key
        with _alone(folder):
            there = distributed.rank() == 0 and (folder / "audit.json").is_file()
            if not distributed.any_worker(there, self.device):
                self.auditor.write(self.model, self.device, self.precision, folder)
        if distributed.rank() == 0:
            tables.write_json({phase: key}, noted)
        distributed.wait_for_all()
        return {phase: key}

    def _dtype(self) -> torch.dtype:
        """Precision is part of what an audit measures."""
        with self.precision():
            kind = self.device.type
            return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def make(
    trial: Trial,
    auditor_split: Any,
    blank: int,
    features: Wav2Vec2FeatureExtractor,
    model: Wav2Vec2ForCTC,
    device: torch.device,
    precision: Precision,
    exact_lengths: bool,
) -> TrialAudit:
    """Make the audit of a trial from its configuration."""
    arguments, training = trial.arguments, trial.training
    bound = int(arguments.get("per_device_train_batch_size", 8))
    auditor = Auditor(
        split=auditor_split,
        positions=sampling.sample(auditor_split, int(training.get("audit_utterances", 2000))),
        features=features,
        blank=blank,
        columns=tuple(name for name in trial.groups if name != "split"),
        reductions=presets(trial.reductions),
        budget_seconds=float(training["micro_batch_seconds"]),
        max_utterances=int(arguments.get("per_device_eval_batch_size", bound)),
        chunk_size=bound,
        exact_lengths=exact_lengths,
        exact=int(training.get("audit_exact") or 0),
    )
    return TrialAudit(trial, auditor, model, device, precision)


def write_tables(trial: Trial, keys: Mapping[str, str]) -> None:
    """Write the audits of all phases into the folder of the trial."""
    for part in PARTS:
        table = pa.concat_tables([_of_phase(trial, phase, key, part) for phase, key in keys.items()])
        if table.num_rows:
            tables.write_parquet(table, trial.folder / f"{part}.parquet")
    for phase in keys:
        (trial.folder / f"audit-{phase}.json").unlink(missing_ok=True)


def _of_phase(trial: Trial, phase: str, key: str, part: str) -> pa.Table:
    table = pyarrow.parquet.read_table(trial.audits / key / f"{part}.parquet")
    for place, (name, value) in enumerate((("trial_id", trial.trial_id), ("phase", phase))):
        table = table.add_column(place, name, pa.array([value] * table.num_rows, pa.string()))
    return table


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one trial at a time make this audit; the lock of a trial that died is gone with it."""
    if distributed.rank() != 0:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
