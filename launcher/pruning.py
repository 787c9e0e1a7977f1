"""Early stopping: which running trials are so far behind others that they need not be trained to the end.

The rule is ASHA's (Li et al. 2020, https://arxiv.org/abs/1810.05934), on the loss per label of the validation set, which
does not depend on the reduction. It is asked here and not inside Tune, because Tune would kill the trial: ours ends behind
a checkpoint, from which it can go on when it is wanted after all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet

from launcher.config import ConfigurationError
from launcher.study import Trial


class Rule(Protocol):
    """The part of a Tune scheduler that decides."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Hear of a trial."""
        ...

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Answer STOP or CONTINUE."""
        ...


def check(trials: Sequence[Trial]) -> None:
    """Refuse early stopping where it has nothing to look at.

    Raises:
        ConfigurationError: no trial is scored while it trains.
    """
    scored = [_strategy(trial) for trial in trials]
    if trials and not any(strategy in ("epoch", "steps") for strategy in scored):
        raise ConfigurationError(
            f"--early-stopping compares scores of trials that train; here {scored[0]}. Add --set eval_strategy=epoch (or "
            "steps), or leave --early-stopping out"
        )


def _strategy(trial: Trial) -> str:
    arguments = trial.configuration.trainer_arguments
    if arguments.get("do_train") is False:
        return "do_train = False"
    strategy = str(arguments.get("eval_strategy", "no"))
    return strategy if strategy != "no" else "eval_strategy = no"


@dataclass(frozen=True)
class _Named:
    trial_id: str


class Pruner:
    """Asks a rule of early stopping about trials of different lengths: progress is measured in per cent."""

    def __init__(self, rule: Rule) -> None:
        self._rule, self._known = rule, set[str]()

    def is_behind(self, trial_id: str, scores: Mapping[str, Any]) -> bool:
        """Hear an evaluation; tell whether the trial can end here.

        Args:
            trial_id: of the trial.
            scores: nll_per_label in nats, update, updates; without them nothing is decided.
        """
        update, updates, loss = (scores.get(name) for name in ("update", "updates", "nll_per_label"))
        if not update or not updates or loss is None:
            return False
        if trial_id not in self._known:
            self._known.add(trial_id)
            self._rule.on_trial_add(None, _Named(trial_id))
        result = {"percent": 100 * update / updates, "nll_per_label": float(loss)}
        return self._rule.on_trial_result(None, _Named(trial_id), result) == "STOP" and update < updates

    def replay(self, folder: Path) -> None:
        """Hear what a trial measured in earlier launches."""
        history = folder / "history.parquet"
        totals = [folder / name for name in ("result.json", "progress.json") if (folder / name).is_file()]
        if not history.is_file() or not totals:
            return
        updates = json.loads(totals[0].read_text(encoding="utf-8"))["updates"]
        columns = pyarrow.parquet.read_table(history, columns=["update", "eval_nll_per_label"]).to_pylist()
        for row in columns:
            if row["eval_nll_per_label"] is not None:
                scores = {"update": row["update"], "updates": updates, "nll_per_label": row["eval_nll_per_label"]}
                self.is_behind(folder.name, scores)
