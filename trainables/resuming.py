"""Go on where a trial stopped, also where it had just come to its early end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerState

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
    if is_over is None or not is_over(state.log_history):
        trainer.train(resume_from_checkpoint=str(folder))
        return False
    trainer.state = state
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(str(best or folder))
    trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)
    return True
