"""The training function: one trial from its configuration to its tables.

`train_fn(config)` runs in every worker of a trial. Everything it measures is written into the trial's folder, each file
whole or not at all, `result.json` last: a trial is done when that file is there.
"""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import shutil
import socket
import time
import traceback
import warnings
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import transformers
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor

from trainables import checkpoints, distributed, model_setup, tables
from trainables.callbacks import HistoryFile, Reporter, StopOnRequest, TensorBoard
from trainables.errors import DataError
from trainables.evaluation import Evaluator
from trainables.metrics import summarise
from trainables.session import RayTrainSession, Session
from trainables.trainer import Diverged, UpdateTrainer
from trainables.trial import Trial
from trainables.vocabulary import Vocabulary

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"


def train_fn(config: Mapping[str, Any], session: Session | None = None) -> str:
    """Run one trial.

    Args:
        config: see `Trial`.
        session: where to report; None: the `TorchTrainer` of this worker.

    Returns:
        "done"; "interrupted" when it stopped behind a checkpoint because it was asked to; "failed" when an error was
        written to `failure.json` (the same error would come again: only a worker that died is replaced by Ray).

    Raises:
        Exception: what went wrong in one of several workers, so that the others do not wait for it.
    """
    trial = Trial.from_config(config)
    if (trial.folder / "result.json").is_file():
        return DONE  # its worker died after the last file was written
    try:
        _count_attempt(trial)
        return _run(trial, session or RayTrainSession())
    except Exception as error:
        failure = {
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
            "time": _now(),
            "node": socket.gethostname(),
        }
        if not (trial.folder / "failure.json").is_file():  # of several workers the first one knows the cause
            tables.write_json(failure, trial.folder / "failure.json")
        if distributed.world_size() > 1 and not isinstance(error, (Diverged, DataError)):
            raise
        return FAILED


def _run(trial: Trial, session: Session) -> str:
    started, clock = _now(), time.perf_counter()
    _settle(trial)
    model, vocabulary, features = model_setup.model_of(trial)
    trainer, evaluators = model_setup.trainer_of(trial, model, vocabulary, features)
    stop = StopOnRequest(trial.stop_file, trainer.args.device, len(trainer.updates))
    history = HistoryFile(trial.trial_id, trial.folder / "history.parquet")
    board = TensorBoard(trial.tensorboard, _flat(trial)) if trial.tensorboard is not None else None
    for callback in (stop, history, Reporter(session), *((board,) if board is not None else ())):
        trainer.add_callback(callback)
    final = evaluators[trial.training["test_set"]]
    if _evaluates_exact_lengths(trial, features):
        final = dataclasses.replace(final, exact_lengths=True)
    initial_rows = _initial(trial, trainer, final)
    checkpoint = checkpoints.newest(trainer.checkpoints)
    if checkpoint is not None:
        trainer.remember(checkpoint[1])
    trainer.train(resume_from_checkpoint=str(checkpoint[0]) if checkpoint is not None else None)
    if stop.stopped:
        return INTERRUPTED
    rows = final.evaluate(model, trainer.args.device, trainer.precision)
    scores = summarise(rows, trial.groups)
    if final.exact_lengths:
        scores |= _padding_effect(trainer, final, scores)
    session.report({name: value for name, value in scores.items() if value is not None} | _progress(trainer))
    if distributed.rank() == 0:
        history.write(trainer.state)
        _write_utterances(trial, {"initial": initial_rows, "final": rows})
        if trial.training["save_model"]:
            _save_model(trial.folder / "model", model, vocabulary, features)
        if board is not None:
            board.close(scores)
        measured = {"started": started, "seconds": time.perf_counter() - clock, "resumed": checkpoint is not None}
        tables.write_json(_result(trial, trainer, scores, measured), trial.folder / "result.json")
        shutil.rmtree(trainer.checkpoints, ignore_errors=True)
    distributed.wait_for_all()
    return DONE


def _evaluates_exact_lengths(trial: Trial, features: Wav2Vec2FeatureExtractor) -> bool:
    """Padding moves the result of models that take no attention mask: they are scored without any, unless told otherwise."""
    asked = trial.training.get("exact_length_evaluation")
    return not features.return_attention_mask if asked is None else asked


def _padding_effect(trainer: UpdateTrainer, final: Evaluator, scores: Mapping[str, Any]) -> dict[str, float]:
    """Measure how far padding would move the scores: score in padded batches minus score without padding."""
    padded = dataclasses.replace(final, exact_lengths=False)
    rows = padded.evaluate(trainer.network, trainer.args.device, trainer.precision)
    moved = summarise(rows, ())
    return {f"padding_effect/{name}": value - scores[name] for name, value in moved.items() if value is not None}


def _count_attempt(trial: Trial) -> None:
    """Count how often this trial was begun; an earlier failure no longer stands."""
    if distributed.rank() == 0:
        path = trial.folder / "attempts.json"
        attempts = json.loads(path.read_text(encoding="utf-8"))["attempts"] if path.is_file() else 0
        tables.write_json({"attempts": attempts + 1}, path)
        (trial.folder / "failure.json").unlink(missing_ok=True)
    distributed.wait_for_all()


def _settle(trial: Trial) -> None:
    """Fix the number of threads (sums in another order differ in the last bit), the seeds, and who may talk."""
    torch.set_num_threads(trial.threads)
    # oneDNN compiles a kernel for each new shape, and nearly every micro-batch has one; the native kernels are as fast
    # without (benchmarks/README.md: 1.7 times the throughput with `tiny`, equal with the size of wav2vec2-base).
    torch.backends.mkldnn.enabled = False
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    seed = int(trial.arguments.get("seed", 42))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # a worker may run several trials


def _initial(trial: Trial, trainer: UpdateTrainer, evaluator: Evaluator) -> list[dict[str, Any]]:
    """Score the model before its first update; a resumed trial finds what was written then."""
    path = trial.folder / "initial.parquet"
    if path.is_file():
        return pyarrow.parquet.read_table(path).to_pylist()
    rows = evaluator.evaluate(trainer.network, trainer.args.device, trainer.precision)
    if distributed.rank() == 0:
        tables.write_parquet(pa.Table.from_pylist(rows), path)
    distributed.wait_for_all()
    return rows


def _write_utterances(trial: Trial, phases: Mapping[str, list[dict[str, Any]]]) -> None:
    rows = [
        {**row, "trial_id": trial.trial_id, "phase": phase} for phase, evaluated in phases.items() for row in evaluated
    ]
    schema = tables.utterance_schema(trial.groups)
    tables.write_parquet(pa.Table.from_pylist(rows, schema=schema), trial.folder / "utterances.parquet")
    (trial.folder / "initial.parquet").unlink(missing_ok=True)


def _save_model(
    folder: Path, model: Wav2Vec2ForCTC, vocabulary: Vocabulary, features: Wav2Vec2FeatureExtractor
) -> None:
    """Save the final model so that `Wav2Vec2ForCTC.from_pretrained` and `Wav2Vec2Processor.from_pretrained` load it."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(vocabulary.as_json(), encoding="utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    Wav2Vec2Processor(feature_extractor=features, tokenizer=tokenizer).save_pretrained(folder)


def _result(
    trial: Trial, trainer: UpdateTrainer, scores: Mapping[str, Any], measured: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "status": DONE,
        "groups": list(trial.groups),
        **scores,
        **trainer.totals.summary(),
        **measured,
        "finished": _now(),
        "peak_memory_bytes": _peak_memory_bytes(),
        "node": socket.gethostname(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "workers": distributed.world_size(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__},
    }


def _progress(trainer: UpdateTrainer) -> dict[str, int]:
    return {"update": trainer.state.global_step, "updates": trainer.state.max_steps}


def _flat(trial: Trial) -> dict[str, Any]:
    return {**trial.model, **trial.arguments, **trial.axes}


def _peak_memory_bytes() -> int:
    """Highest memory of this worker so far: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
