"""The training function: one trial from its configuration to its tables.

`train_fn(config)` runs in every worker of a trial. Everything it measures is written into the trial's folder, each file
whole or not at all, `result.json` last: a trial is done when that file is there.
"""

from __future__ import annotations

import random
import shutil
import socket
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import transformers
from transformers import TrainerState, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor

from trainables import (
    attempts,
    checkpoints,
    distributed,
    failures,
    hardware,
    model_setup,
    progress_file,
    resuming,
    tables,
    trackers,
    trial_audit,
    versions,
)
from trainables.callbacks import (
    EarlyStopping,
    HistoryFile,
    Reporter,
    SaveBehindEvaluation,
    StopOnRequest,
    TensorBoard,
)
from trainables.errors import DataError
from trainables.failures import Diverged
from trainables.progress_file import ProgressFile
from trainables.scoring import Scorer
from trainables.session import RayTrainSession, Session
from trainables.trainer import UpdateTrainer
from trainables.trial import Trial
from trainables.vocabulary import Vocabulary

DONE, FAILED, INTERRUPTED, PRUNED, BROKEN_OFF = "done", "failed", "interrupted", "pruned", "broken off"
PREEMPTED = "preempted"


def train_fn(config: Mapping[str, Any], session: Session | None = None) -> str:
    """Run one trial.

    Args:
        config: see `Trial`.
        session: where to report; None: the `TorchTrainer` of this worker.

    Returns:
        "done"; "interrupted" when it stopped behind a checkpoint because it was asked to; "pruned" when that was for good;
        "preempted" when that was because its node is taken away, and it is to go on elsewhere;
        "failed" when its last error was written to `failure.json`; "broken off" when the error is in `attempts.json`
        and another attempt may end better. The launcher reads these files, not what is returned.

    Raises:
        Exception: what went wrong in one of several workers, so that the others do not wait for it.
        OSError: the attempt could not be counted, or its end not be noted.
    """
    trial = Trial.from_config(config)
    with attempts.held(trial.folder) if distributed.rank() == 0 else nullcontext():
        if distributed.rank() == 0:
            for torn in trial.folder.glob(".*.part"):  # nobody else writes here now
                torn.unlink(missing_ok=True)
        if (trial.folder / "result.json").is_file():
            if distributed.rank() == 0:
                _tidy(trial)  # its worker died after the last file was written
            return DONE
        # Not in the block below: an attempt that could not be counted has no record in which its error could be noted.
        world, is_first = distributed.world_size(), distributed.rank() == 0
        halvings = attempts.begin(trial.folder, trial.launch, trial.attempt, workers=world) if is_first else 0
        try:  # after attempts that ran out of memory micro-batches are smaller
            halvings = round(distributed.add([float(halvings)], distributed.device())[0])
            trial = trial.with_smaller_micro_batches(0.5**halvings)
            with trackers.of(trial) as tracking:
                status = _run(trial, session or RayTrainSession(), tracking)
                tracking.finish(status)
        except Exception as error:
            failed = attempts.fail(trial.folder, error)
            # These are met by all workers alike; a full disk may be that of one node.
            alike = isinstance(error, (Diverged, DataError)) and failures.classify(error) != failures.STORAGE
            if world > 1 and not alike:
                raise
            return FAILED if failed else BROKEN_OFF
        if distributed.rank() == 0 and status != PREEMPTED:  # that has been noted with its update
            attempts.end(trial.folder)
        return status


def _run(trial: Trial, session: Session, tracking: trackers.Trackers) -> str:
    started, clock = _now(), time.perf_counter()
    settle(trial)
    model, vocabulary, features = model_setup.model_of(trial)
    measured: dict[str, Any] = {"started": started, "resumed": False}
    if trial.trains:
        trainer = model_setup.trainer_of(trial, model, vocabulary, features)
        trainer.add_callback(tracking)
        scorer = Scorer.of(trial, model, vocabulary, features, trainer.args.device, trainer.precision)
        audit = _audit(trial, scorer, vocabulary, features)
        initial = scorer.initial()
        audits = audit.run("initial") if audit is not None else {}
        stopped = _train(trial, trainer, session, measured)
        if stopped is not None:
            return stopped
        board: TensorBoard | None = measured.pop("board")
        measured |= {**trainer.totals.summary(), "reduction_used": str(trainer.reduction)}
        progress = _progress(trainer)
    else:
        arguments = model_setup.training_arguments(trial.arguments, trial.folder / "checkpoints")
        model.to(arguments.device)  # type: ignore[arg-type]
        distributed.copy_from_first([*model.parameters(), *model.buffers()])
        scorer = Scorer.of(trial, model, vocabulary, features, arguments.device, model_setup.autocast(arguments))
        audit = _audit(trial, scorer, vocabulary, features)
        initial, board, audits = [], None, {}
        measured |= {"updates": 0}
        progress = {"update": 0, "updates": 0}
    rows, scores = scorer.final()
    audits |= audit.run("final") if audit is not None else {}
    session.report({name: value for name, value in scores.items() if value is not None} | progress)
    if distributed.rank() == 0:
        _write_utterances(trial, {"initial": initial, "final": rows})
        if audits:
            trial_audit.write_tables(trial, audits)
        if trial.trains and trial.training["save_model"]:
            _save_model(trial.folder / "model", model, vocabulary, features)
        if board is not None:
            board.close(scores)
        tracking.finish(DONE, scores)
        measured["seconds"] = time.perf_counter() - clock
        tables.write_json(_result(trial, scores, measured), trial.folder / "result.json")
        _tidy(trial)
    distributed.wait_for_all()
    return DONE


def _tidy(trial: Trial) -> None:
    """Drop what only a trial that is not done needs."""
    shutil.rmtree(trial.folder / "checkpoints", ignore_errors=True)
    (trial.folder / progress_file.NAME).unlink(missing_ok=True)


def _audit(
    trial: Trial, scorer: Scorer, vocabulary: Vocabulary, features: Wav2Vec2FeatureExtractor
) -> trial_audit.TrialAudit | None:
    if not trial.training.get("audit"):
        return None
    training = model_setup.split_of(trial, "train", scorer.model, vocabulary)
    name = trial.training.get("audit_split") or "train"
    audited = training if name == "train" else model_setup.split_of(trial, name, scorer.model, vocabulary)
    return trial_audit.make(
        trial, audited, training, vocabulary.blank, features, scorer.model, scorer.device, scorer.precision,
        scorer.exact_lengths,
    )  # fmt: skip


def _train(trial: Trial, trainer: UpdateTrainer, session: Session, measured: dict[str, Any]) -> str | None:
    """Train from the newest checkpoint, or from the beginning.

    Returns:
        "interrupted", "pruned" or "preempted" when it stopped behind a checkpoint because it was asked to; None at the end.
    """
    behind = SaveBehindEvaluation(len(trainer.updates))
    stop = StopOnRequest(trial.stop_file, trial.folder, trainer.args.device, len(trainer.updates))
    history = HistoryFile(trial.trial_id, trial.folder / "history.parquet")
    board = TensorBoard(trial.tensorboard, _flat(trial)) if trial.tensorboard is not None else None
    patience = int(trial.training.get("early_stopping") or 0)
    early = EarlyStopping(patience, str(trainer.args.metric_for_best_model)) if patience else None
    progress = ProgressFile(trial.folder / progress_file.NAME)
    for callback in (behind, stop, early, history, Reporter(session), progress, board):
        if callback is not None:
            trainer.add_callback(callback)
    if distributed.rank() == 0:
        checkpoints.drop_torn(trainer.checkpoints)
    checkpoint = checkpoints.newest(trainer.checkpoints)
    if resuming.train(trainer, checkpoint, early.is_over if early is not None else None) and early is not None:
        early.stopped = True
    if not stop.stopped and distributed.rank() == 0:
        history.write(trainer.state)
    measured |= {
        "resumed": checkpoint is not None,
        "stopped_early": early is not None and early.stopped,
        "board": board,
    }
    if stop.pruned and distributed.rank() == 0:
        _write_pruned(trial, trainer.state, measured)
    if stop.preempted and distributed.rank() == 0:
        attempts.leave(trial.folder, trainer.state.global_step)
    return PRUNED if stop.pruned else PREEMPTED if stop.preempted else INTERRUPTED if stop.stopped else None


def _write_pruned(trial: Trial, state: TrainerState, measured: Mapping[str, Any]) -> None:
    """Note what is known of a trial that others were ahead of; its checkpoint stays, so that it can go on."""
    scores = [entry for entry in state.log_history if "eval_nll_per_label" in entry]
    content = {
        "trial_id": trial.trial_id,
        "status": PRUNED,
        "started": measured["started"],
        "finished": _now(),
        "updates": state.global_step,
        "nll_per_label": scores[-1]["eval_nll_per_label"] if scores else None,
        "node": socket.gethostname(),
    }
    tables.write_json(content, trial.folder / "pruned.json")


def settle(trial: Trial) -> None:
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
    hardware.forget_peak_memory(trial.arguments)


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
    checkpoints.flush(folder)  # before result.json says that the trial is done


def _result(trial: Trial, scores: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "status": DONE,
        "groups": list(trial.groups),
        "audit": {
            name: trial.training.get(name) for name in ("audit", "audit_split", "audit_utterances", "audit_exact")
        },
        **scores,
        **measured,
        "finished": _now(),
        "peak_memory_bytes": hardware.peak_memory_bytes(trial.arguments),
        "node": socket.gethostname(),
        "device": hardware.name(trial.arguments),
        "workers": distributed.world_size(),
        "threads": trial.threads,
        **versions.of_worker(),
    }


def _progress(trainer: UpdateTrainer) -> dict[str, int]:
    return {"update": trainer.state.global_step, "updates": trainer.state.max_steps}


def _flat(trial: Trial) -> dict[str, Any]:
    return {**trial.model, **trial.arguments, **trial.axes}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
