"""The audits of one trial: of its model before and after training, each made once and shared by all trials of a study."""

from __future__ import annotations

import fcntl
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import distributed, reduction_choice, sampling, tables
from trainables.audit import Auditor, Precision
from trainables.dataset import Split
from trainables.shares import presets
from trainables.trial import Trial
from trainables.variants import RESULTS_VERSION

PARTS = ("shares", "exact", "cosines", "audit")
"""Tables of an audit; in a trial's folder each holds the rows of both phases."""
# Where a model came from and who wrote its configuration says nothing of what it does.
_NAMES = frozenset({"_name_or_path", "transformers_version", "architectures"})


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

        A resumed trial comes here with the model it began with, and finds that audit too.

        Args:
            phase: initial or final.

        Returns:
            phase and key of the audit.
        """
        config = {name: value for name, value in self.model.config.to_dict().items() if name not in _NAMES}
        hears = json.dumps([config, self.auditor.features.to_dict()], sort_keys=True, default=str)
        key = self.auditor.key(self.model, str(self.device.type), str(self._dtype()), hears, str(RESULTS_VERSION))
        folder = self.trial.audits / key
        with _alone(folder, self.device):
            there = distributed.rank() == 0 and (folder / "audit.json").is_file()
            if not distributed.any_worker(there, self.device):
                self.auditor.write(self.model, self.device, self.precision, folder)
        return {phase: key}

    def _dtype(self) -> torch.dtype:
        """Precision is part of what an audit measures."""
        with self.precision():
            kind = self.device.type
            return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def make(
    trial: Trial,
    audited: Split,
    training: Split,
    blank: int,
    features: Wav2Vec2FeatureExtractor,
    model: Wav2Vec2ForCTC,
    device: torch.device,
    precision: Precision,
    exact_lengths: bool,
) -> TrialAudit:
    """Make the audit of a trial from its configuration.

    Args:
        trial: what was asked for.
        audited: the split that is audited.
        training: the training set, by whose groups reductions weigh; empty where the data have none.
        blank: label id of the CTC blank.
        features: normalisation and attention mask.
        model: the model.
        device: where it is.
        precision: makes the autocast context of one forward.
        exact_lengths: put only utterances of the very same length together.

    Raises:
        DataError: the trial's reduction does not fit the groups of the training set.
    """
    arguments, settings = trial.arguments, trial.training
    bound = int(arguments.get("per_device_train_batch_size", 8))
    own = str(reduction_choice.choose(trial.model, training.groups or audited.groups))  # a list of weights is one too
    family = presets((*trial.reductions, own))
    known = [not reduction_choice.audit_lacks(one, audited.groups, training.groups) for one in family]
    auditor = Auditor(
        split=_weighed_as(audited, training) if all(known) else audited,
        positions=sampling.sample(audited, int(settings.get("audit_utterances", 2000))),
        features=features,
        blank=blank,
        columns=tuple(name for name in trial.groups if name != "split"),
        reductions=tuple(itertools.compress(family, known)),
        update_size=bound * int(arguments.get("gradient_accumulation_steps", 1)),
        left_out=tuple(str(one) for one, is_known in zip(family, known) if not is_known),
        budget_seconds=float(settings["micro_batch_seconds"]),
        max_utterances=int(arguments.get("per_device_eval_batch_size", bound)),
        chunk_size=bound,
        exact_lengths=exact_lengths,
        exact=int(settings.get("audit_exact") or 0),
    )
    return TrialAudit(trial, auditor, model, device, precision)


def _weighed_as(audited: Split, training: Split) -> Split:
    """Return the audited split as reductions weigh it: by the groups of the training set and by their numbers there."""
    code = [training.groups.index(group) for group in audited.groups]
    return replace(
        audited,
        groups=training.groups,
        group_code=[code[one] for one in audited.group_code],
        training_count_G=training.group_counts,
    )


def write_tables(trial: Trial, keys: Mapping[str, str]) -> None:
    """Write the audits of all phases into the folder of the trial."""
    for part in PARTS:
        table = pa.concat_tables([_of_phase(trial, phase, key, part) for phase, key in keys.items()])
        if table.num_rows:
            tables.write_parquet(table, trial.folder / f"{part}.parquet")


def _of_phase(trial: Trial, phase: str, key: str, part: str) -> pa.Table:
    table = pyarrow.parquet.read_table(trial.audits / key / f"{part}.parquet")
    for place, (name, value) in enumerate((("trial_id", trial.trial_id), ("phase", phase))):
        table = table.add_column(place, name, pa.array([value] * table.num_rows, pa.string()))
    return table


@contextmanager
def _alone(folder: Path, device: torch.device) -> Iterator[None]:
    """Let one trial at a time make this audit; the lock of a trial that died is gone with it.

    The workers of a trial wait together, in short turns: one long wait would look like a hang to the others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        while not distributed.any_worker(distributed.rank() == 0 and _locked(lock), device):
            time.sleep(0.2)
        yield


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
