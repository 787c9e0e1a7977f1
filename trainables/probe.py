"""Try a trial for a few updates, to know what it would cost: `python -m trainables.probe JOB RESULT`.

JOB is a JSON file with what a trial is told (`trainables.trial.Trial`), RESULT the JSON file that is written. Model, data,
trainer and evaluation are the real ones; only the number of updates and of scored utterances is small.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, Wav2Vec2ForCTC

from trainables import hardware, model_setup, tables
from trainables.evaluation import Evaluator
from trainables.scoring import Scorer
from trainables.trainer import UpdateTrainer
from trainables.trial import Trial
from trainables.vocabulary import Vocabulary
from trainables.wav2vec2_ctc import settle

UPDATES, UTTERANCES = 3, 8
_SHORT = {"max_steps": UPDATES, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False,
          "eval_on_start": False, "logging_steps": 1}  # fmt: skip


class Clock(TrainerCallback):
    """Notes when each update ends, once the device has done its work."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ends = device, [0.0]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start."""
        self.ends = [self.now()]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note the end of an update; the time from one end to the next holds the loading of the data too."""
        self.ends.append(self.now())

    def now(self) -> float:
        """Return the time in seconds."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @property
    def seconds(self) -> list[float]:
        """Seconds of each update but the first, which also warms up; of the first where it is the only one."""
        each = [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]
        return each[1:] or each


def measure(config: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what a trial costs.

    Args:
        config: see `Trial`, whose folder is written to; and spawned, when this process was started (seconds since 1970).

    Returns:
        start_up_seconds (of the process, until it got here), build_seconds (model, data and trainer), update_seconds (a list, the first update left out),
        evaluation_seconds (per utterance), checkpoint_seconds, checkpoint_bytes, model_bytes, peak_memory_bytes, device;
        the sizes of the whole trial: train_utterances, updates_per_epoch, validation_utterances, scored_utterances,
        audited_utterances. What the trial does not do is None or 0.
    """
    began, start_up = time.perf_counter(), time.time() - config["spawned"]
    trial = Trial.from_config(config)
    trial = dataclasses.replace(
        trial, sections={**trial.sections, "Trainer Arguments": {**trial.arguments, **(_SHORT if trial.trains else {})}}
    )
    settle(trial)
    model, vocabulary, features = model_setup.model_of(trial)
    found: dict[str, Any] = {
        "start_up_seconds": max(0.0, start_up),
        "train_utterances": 0,
        "updates_per_epoch": 0,
        "validation_utterances": 0,
    }
    validation = None
    if trial.trains:
        trainer = model_setup.trainer_of(trial, model, vocabulary, features)
        found["build_seconds"] = time.perf_counter() - began
        device, precision, validation = trainer.args.device, trainer.precision, trainer.evaluator
        found |= _train(trainer)
    else:
        arguments = model_setup.training_arguments(trial.arguments, trial.folder / "checkpoints")
        device, precision = arguments.device, model_setup.autocast(arguments)
        model.to(device)  # type: ignore[arg-type]
        found["build_seconds"] = time.perf_counter() - began
    found |= _score(trial, Scorer.of(trial, model, vocabulary, features, device, precision), validation)
    found["audited_utterances"] = _audited(trial, model, vocabulary)
    found["peak_memory_bytes"] = hardware.peak_memory_bytes(trial.arguments)
    found["device"] = hardware.name(trial.arguments)
    return found


def _train(trainer: UpdateTrainer) -> dict[str, Any]:
    """Train for some updates and write one checkpoint."""
    clock = Clock(trainer.args.device)
    trainer.add_callback(clock)
    trainer.train()
    began = clock.now()
    trainer._save_checkpoint(trainer.network, None)
    files = [path for path in trainer.checkpoints.rglob("*") if path.is_file()]
    return {
        "update_seconds": clock.seconds,
        "checkpoint_seconds": clock.now() - began,
        "checkpoint_bytes": sum(path.stat().st_size for path in files),
        "model_bytes": sum(path.stat().st_size for path in files if path.suffix == ".safetensors"),
        "train_utterances": len(trainer.updates.loader.split),
        "updates_per_epoch": len(trainer.updates),
        "validation_utterances": len(trainer.evaluator.split),
    }


def _score(trial: Trial, scorer: Scorer, validation: Evaluator | None) -> dict[str, Any]:
    """Score a few utterances, short and long."""
    evaluator = scorer.evaluator or (validation if trial.evaluates else None)
    if evaluator is None or not len(evaluator.split):
        return {"evaluation_seconds": None, "scored_utterances": 0}
    chosen = _spread(evaluator.split.seconds, UTTERANCES)
    few = dataclasses.replace(evaluator, split=evaluator.split.only(chosen))
    clock = Clock(scorer.device)
    few.evaluate(scorer.model, scorer.device, scorer.precision)  # warms up
    began = clock.now()
    few.evaluate(scorer.model, scorer.device, scorer.precision)
    seconds = (clock.now() - began) / len(chosen)
    return {
        "evaluation_seconds": seconds,
        "scored_utterances": 0 if scorer.evaluator is None else len(scorer.evaluator.split),
    }


def _spread(seconds: Sequence[float], count: int) -> list[int]:
    """Choose utterances evenly from the shortest to the longest, so that their mean is that of all."""
    order = sorted(range(len(seconds)), key=lambda place: seconds[place])
    count = min(count, len(order))
    return sorted(order[(2 * number + 1) * len(order) // (2 * count)] for number in range(count))


def _audited(trial: Trial, model: Wav2Vec2ForCTC, vocabulary: Vocabulary) -> int:
    if not trial.training.get("audit"):
        return 0
    audited = model_setup.split_of(trial, trial.training.get("audit_split") or "train", model, vocabulary)
    return min(len(audited), int(trial.training.get("audit_utterances") or len(audited)))


def main(job: str, result: str) -> None:
    """Measure the trial of a job file and write the result file."""
    tables.write_json(measure(json.loads(Path(job).read_text(encoding="utf-8"))), Path(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
