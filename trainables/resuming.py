"""Go on where a trial stopped, also where it had just come to its early end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainables import checkpoints
from trainables.errors import DataError
from trainables.trainer import UpdateTrainer

IsOver = Callable[[Sequence[Mapping[str, Any]]], bool]


def train(trainer: UpdateTrainer, checkpoint: tuple[Path, Mapping[str, Any]] | None, is_over: IsOver | None) -> bool:
    """Train to the end, from the newest checkpoint where there is one.

    Args:
        trainer: fresh, with its callbacks.
        checkpoint: folder and memory of the newest checkpoint.
        is_over: the rule of early stopping, asked with the history; None: there is none.

    Returns:
        whether the checkpoint was already the end of training: the process died, or was stopped, right behind it.
    """
    if checkpoint is None:
        trainer.train()
        return False
    folder, memory = checkpoint
    trainer.remember(memory)
    state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
    best = _best(trainer, state)
    if is_over is None or not is_over(state.log_history):
        trainer.add_callback(_BestIsHere(best))
        trainer.train(resume_from_checkpoint=str(folder))
        return False
    trainer.state = state
    trainer._load_from_checkpoint(str(best or folder))
    trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)
    return True


def _best(trainer: UpdateTrainer, state: TrainerState) -> Path | None:
    """Return the best checkpoint so far; None where it is not asked for, or none was best yet.

    Raises:
        DataError: it is gone. The Trainer would take the last model in its place, and say so in its log alone.
    """
    if not trainer.args.load_best_model_at_end or state.best_model_checkpoint is None:
        return None
    best = trainer.checkpoints / Path(state.best_model_checkpoint).name
    if not checkpoints.is_whole(best):
        raise DataError(
            f"{best} is gone or damaged; it held the best model so far (load_best_model_at_end). Remove "
            f"{trainer.checkpoints} to begin this trial again, and give the same command with --retry-failed"
        )
    return best


class _BestIsHere(TrainerCallback):
    """Tells the Trainer where the best checkpoint is: the folder of the study may have moved since it was written."""

    def __init__(self, best: Path | None) -> None:
        self.best = best

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Correct what the Trainer read."""
        state.best_model_checkpoint = None if self.best is None else str(self.best)
