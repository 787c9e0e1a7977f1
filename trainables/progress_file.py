"""How far a running trial is, on disk, for whoever looks from another terminal or machine."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainables import tables

NAME = "progress.json"
_INTERVAL_SECONDS = 5.0
_SCORES = ("wer", "cer", "nll_per_label")


class ProgressFile(TrainerCallback):
    """Keeps progress.json: updates done and wanted, seconds trained, when that was, scores of the last evaluation.

    It is written at the beginning, at each evaluation, and otherwise at most every five seconds, and flushed like every
    other file: early stopping reads it in the next launch, which may be after a power loss.

    Args:
        path: the file; written whole or not at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scores: dict[str, float] = {}
        self._began, self._written = time.monotonic(), -math.inf

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write where this attempt starts; an earlier attempt may have been further than its last checkpoint."""
        self._began = time.monotonic()
        self._write(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write now and then."""
        if time.monotonic() - self._written >= _INTERVAL_SECONDS:
            self._write(state)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any],
        **_: Any,
    ) -> None:
        """Write the new scores."""
        self._scores = {name: float(metrics[f"eval_{name}"]) for name in _SCORES if f"eval_{name}" in metrics}
        self._write(state)

    def _write(self, state: TrainerState) -> None:
        if not state.is_world_process_zero:
            return
        self._written = time.monotonic()
        content = {"update": state.global_step, "updates": state.max_steps, "seconds": self._written - self._began}
        content["at"] = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        tables.write_json({**content, **self._scores}, self.path)


def last_sign(folder: Path) -> str | None:
    """Return when the newest attempt at a trial was last heard of; of one that was killed, nothing else tells."""
    path = folder / NAME
    return json.loads(path.read_text(encoding="utf-8")).get("at") if path.is_file() else None
