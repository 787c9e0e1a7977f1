"""What happens beside the training of a trial: reports, TensorBoard, history on disk, the wish to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainables import attempts, distributed, tables
from trainables.errors import DataError
from trainables.event_file import EventFile
from trainables.masking import without_passwords
from trainables.session import Session


class Reporter(TrainerCallback):
    """Reports each evaluation to the launcher, with progress."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any],
        **_: Any,
    ) -> None:
        """Report plain Python numbers: Ray refuses numpy scalars and tensors."""
        scores = {name.removeprefix("eval_"): float(value) for name, value in metrics.items()}
        self.session.report({**scores, "update": state.global_step, "updates": state.max_steps})


class StopOnRequest(TrainerCallback):
    """Ends training behind a last checkpoint once somebody wishes it; all workers at the same update.

    Args:
        stop_file: the study is to stop.
        folder: of the trial; `prune` in it: it is to stop for good, because others are ahead of it; `drain.json`: it is to go
            on elsewhere, because its node is taken away.
        device: where workers exchange tensors.
        updates_per_epoch: the end of an epoch is left to its evaluation.
    """

    def __init__(self, stop_file: Path, folder: Path, device: torch.device, updates_per_epoch: int) -> None:
        self._wishes = (stop_file, folder / attempts.PRUNE, folder / attempts.DRAIN)
        self.device, self.updates_per_epoch = device, updates_per_epoch
        self.stopped = self.pruned = self.preempted = False
        self._saved_at = -1

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remember which update has its checkpoint: writing into it once more would break its seal."""
        self._saved_at = state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Look for wishes after each update inside an epoch."""
        # A checkpoint that an undisturbed trial would not have must not become that of the best model.
        might_be_best = args.load_best_model_at_end and control.should_evaluate and not control.should_save
        if state.global_step % self.updates_per_epoch and not might_be_best:
            self._stop_if_asked(state, control)
        return control

    def _stop_if_asked(self, state: TrainerState, control: TrainerControl) -> None:
        """The last update ends the training anyway."""
        if state.global_step >= state.max_steps:
            return
        stop, prune, drain = distributed.add([float(wish.exists()) for wish in self._wishes], self.device)
        if stop or prune or drain:
            self.stopped = control.should_training_stop = True
            control.should_save = self._saved_at != state.global_step
            self.pruned = prune > 0 and not stop
            self.preempted = drain > 0 and not stop and not prune

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Stop behind the evaluation of a whole epoch; one that was broken off is not evaluated.

        Either way the history is that of an undisturbed run.
        """
        if self.stopped:
            control.should_evaluate = control.should_save = control.should_log = False
        else:
            self._stop_if_asked(state, control)
        return control


class SaveBehindEvaluation(TrainerCallback):
    """Moves a save at the last update of an epoch behind the evaluation of that epoch.

    A trial that was killed between the two would go on with the next epoch, and that evaluation would be missing.
    """

    def __init__(self, updates_per_epoch: int) -> None:
        self.updates_per_epoch, self.is_due = updates_per_epoch, False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Put a save off that stands before the evaluation of a whole epoch."""
        whole = args.eval_strategy == "epoch" and state.global_step % self.updates_per_epoch == 0
        if control.should_save and whole:
            self.is_due, control.should_save = True, False
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Save now."""
        if self.is_due:
            self.is_due, control.should_save = False, True
        return control


class EarlyStopping(TrainerCallback):
    """Ends training after several evaluations without a better score.

    It counts in the history, which travels with the checkpoints: an interrupted trial stops where it would have stopped.
    """

    def __init__(self, patience: int, metric: str) -> None:
        self.patience, self.metric, self.stopped = patience, f"eval_{metric.removeprefix('eval_')}", False

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Look how long ago the lowest score was."""
        if self.is_over(state.log_history):
            self.stopped = control.should_training_stop = True
        return control

    def is_over(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Tell from a history whether training has to end; a resumed trial asks before it begins.

        Raises:
            DataError: the metric is not measured; the message lists those that are.
        """
        scores = [entry for entry in history if any(name.startswith("eval_") for name in entry)]
        if not scores:
            return False
        if self.metric not in scores[-1]:
            known = ", ".join(sorted(name.removeprefix("eval_") for name in scores[-1] if name.startswith("eval_")))
            raise DataError(
                f"metric_for_best_model = {self.metric.removeprefix('eval_')!r} is not measured; there are: {known}"
            )
        # A score that is no number is no best one: none would ever be below it.
        values = [math.inf if math.isnan(entry[self.metric]) else entry[self.metric] for entry in scores]
        return len(values) - 1 - values.index(min(values)) >= self.patience


class HistoryFile(TrainerCallback):
    """Keeps history.parquet up to date whenever the trial evaluates or saves."""

    def __init__(self, trial_id: str, path: Path) -> None:
        self.trial_id, self.path = trial_id, path

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what is known so far."""
        self.write(state)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what is known so far."""
        self.write(state)

    def write(self, state: TrainerState) -> None:
        """Write the whole history anew, in place of the old one."""
        if state.is_world_process_zero:
            tables.write_parquet(tables.history_table(self.trial_id, state.log_history), self.path)


class TensorBoard(TrainerCallback):
    """Writes scalars while training and the hyperparameters with the final scores at the end."""

    def __init__(self, folder: Path, hyperparameters: Mapping[str, Any]) -> None:
        self.folder = folder
        self.hyperparameters = {
            name: value if isinstance(value, (bool, int, float)) else without_passwords(str(value))
            for name, value in hyperparameters.items()
        }
        self.file: EventFile | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin an event file; on resuming, what lay behind the checkpoint is struck out."""
        if state.is_world_process_zero:
            self.file = EventFile(self.folder, state.global_step + 1 if state.global_step else None)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Mapping[str, Any], **_: Any
    ) -> None:
        """Add one point per number."""
        for name, value in logs.items() if self.file is not None and "update" in logs else ():
            if name not in ("update", "epoch"):
                tag = f"validation/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
                self.file.add_scalar(tag, value, state.global_step)  # type: ignore[union-attr]

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put on disk what there is so far."""
        self._flush()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put on disk what no attempt that goes on from this checkpoint measures again."""
        self._flush()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put on disk what there is, also of a trial that stops here."""
        self._flush()

    def close(self, scores: Mapping[str, float | None]) -> None:
        """Write hyperparameters and final scores for the HParams page."""
        if self.file is not None:
            final = {f"final/{name}": float(value) for name, value in scores.items() if isinstance(value, (int, float))}
            self.file.add_hparams(self.hyperparameters, final)
            self._flush()
            self.file = None

    def _flush(self) -> None:
        if self.file is not None:
            self.file.flush()
