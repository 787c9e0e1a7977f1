"""What a trial measures of its model before and after training: scores of each utterance, and how far padding moves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import distributed, model_setup, tables
from trainables.evaluation import Evaluator
from trainables.metrics import summarise
from trainables.trial import Trial, scored_splits
from trainables.vocabulary import Vocabulary


@dataclass(frozen=True)
class Scorer:
    """Scores the splits that `test_set` names.

    Attributes:
        trial: what was asked for.
        model: the model, trained in place between two calls.
        device: where it is.
        precision: makes the autocast context of one forward.
        evaluator: None when nothing is to be scored (`do_eval = False`).
        exact_lengths: whether nothing is padded when the model is measured.
    """

    trial: Trial
    model: Wav2Vec2ForCTC
    device: torch.device
    precision: Callable[[], AbstractContextManager[Any]]
    evaluator: Evaluator | None
    exact_lengths: bool

    @classmethod
    def of(
        cls,
        trial: Trial,
        model: Wav2Vec2ForCTC,
        vocabulary: Vocabulary,
        features: Wav2Vec2FeatureExtractor,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> Scorer:
        """Make the scorer of a trial."""
        splits = scored_splits(trial.sections)
        evaluator = model_setup.evaluator_of(trial, splits, model, vocabulary, features) if splits else None
        exact_lengths = _wants_exact_lengths(trial, features)
        if evaluator is not None:
            evaluator = dataclasses.replace(evaluator, exact_lengths=exact_lengths)
        return cls(trial, model, device, precision, evaluator, exact_lengths)

    def initial(self) -> list[dict[str, Any]]:
        """Score the model before its first update; a resumed trial finds what was written then."""
        if self.evaluator is None:
            return []
        path = self.trial.folder / "initial.parquet"
        if path.is_file():
            rows = pyarrow.parquet.read_table(path).to_pylist()
            # Asked for other columns since, or written by a version that had fewer, it is scored anew.
            if {*self.trial.groups, "grad_norm"} <= set(rows[0]):
                return rows
        rows = self._evaluate(self.evaluator, gradients=True)
        if distributed.rank() == 0:
            tables.write_parquet(pa.Table.from_pylist(rows), path)
        distributed.wait_for_all()
        return rows

    def final(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Score the model as it is now.

        Returns:
            the rows of its utterances, and the scores of all and of each group.
        """
        if self.evaluator is None:
            return [], {}
        rows = self._evaluate(self.evaluator, gradients=True)
        scores = summarise(rows, self.trial.groups)
        if self.evaluator.exact_lengths:
            scores |= self._padding_effect(self.evaluator, scores)
        return rows, scores

    def _padding_effect(self, evaluator: Evaluator, scores: Mapping[str, Any]) -> dict[str, float]:
        """Measure how far padding would move the scores: score in padded batches minus score without padding."""
        moved = summarise(self._evaluate(dataclasses.replace(evaluator, exact_lengths=False)), ())
        return {f"padding_effect/{name}": value - scores[name] for name, value in moved.items() if value is not None}

    def _evaluate(self, evaluator: Evaluator, *, gradients: bool = False) -> list[dict[str, Any]]:
        return evaluator.evaluate(self.model, self.device, self.precision, gradients=gradients)


def _wants_exact_lengths(trial: Trial, features: Wav2Vec2FeatureExtractor) -> bool:
    """Padding moves the result of models that take no attention mask: they are scored without, unless told otherwise."""
    asked = trial.training.get("exact_length_evaluation")
    return not features.return_attention_mask if asked is None else asked
