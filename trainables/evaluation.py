"""Score a model on a split: loss, greedy transcript, errors and, where asked for, gradient norm of each utterance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from math import isfinite
from operator import itemgetter
from typing import Any

import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import ctc, decoding, distributed, packing
from trainables.dataset import Split
from trainables.head_gradients import HeadGradients
from trainables.metrics import count_errors
from trainables.vocabulary import Vocabulary


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a split in length-sorted micro-batches, shared by the workers.

    Attributes:
        split: the utterances.
        vocabulary: labels to text.
        features: normalisation and attention mask.
        group_columns: columns that are carried into the rows.
        budget_seconds: padded audio of one forward.
        max_utterances: upper bound of one forward.
        exact_lengths: put only utterances of the very same length together, so that nothing is padded.
    """

    split: Split
    vocabulary: Vocabulary
    features: Wav2Vec2FeatureExtractor
    group_columns: tuple[str, ...]
    budget_seconds: float
    max_utterances: int
    exact_lengths: bool = False

    @torch.no_grad()
    def evaluate(
        self,
        model: Wav2Vec2ForCTC | torch.nn.Module,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[Any]],
        *,
        gradients: bool = False,
    ) -> list[dict[str, Any]]:
        """Measure every utterance in eval mode, without dropout or SpecAugment.

        Args:
            model: left in the mode in which it came.
            device: where it is.
            precision: makes the autocast context of one forward.
            gradients: measure grad_norm too, from the same forward and one backward from the losses to the logits.

        Returns:
            one row per utterance in the order of their names, the same list on every worker: its columns, loss (nats),
            labels, frames, reference, hypothesis, the error counts and, where asked for, grad_norm: the norm of the
            gradient of its loss at the output layer, None where the loss is not finite.
        """
        was_training = model.training
        model.eval()
        rows: list[dict[str, Any]] = []
        with ExitStack() as watching:
            head = watching.enter_context(HeadGradients(model)) if gradients else None
            for positions in self._share():
                batch = self.split.micro_batch(positions, self.features, positions)
                with precision():
                    logits_BTV = model(**{name: tensor.to(device) for name, tensor in batch.inputs.items()}).logits
                measured_B = self._measure(logits_BTV, batch, head)
                best_B = decoding.best_labels(logits_BTV, batch.frame_count_B)
                rows += [
                    self._row(position, measured, self.vocabulary.decode(best))
                    for position, measured, best in zip(positions, measured_B, best_B)
                ]
        model.train(was_training)
        in_order = sorted(distributed.gather_rows(rows), key=itemgetter("_position"))
        return [{name: value for name, value in row.items() if name != "_position"} for row in in_order]

    def _share(self) -> list[list[int]]:
        bounds: dict[str, Any] = {"budget_seconds": self.budget_seconds, "max_utterances": self.max_utterances}
        pack = packing.pack_equal if self.exact_lengths else packing.pack
        parts = pack(self.split.seconds, **bounds)
        return packing.share(parts, self.split.seconds, distributed.world_size())[distributed.rank()]

    def _measure(
        self, logits_BTV: torch.Tensor, batch: ctc.MicroBatch, head: HeadGradients | None
    ) -> list[dict[str, float | None]]:
        """Return the loss of each utterance and, where the output layers are watched, its gradient norm."""
        if head is None:
            return [{"loss": loss} for loss in ctc.losses(logits_BTV, batch, self.vocabulary.blank).tolist()]
        found = head.measure(logits_BTV, batch, self.vocabulary.blank)
        pairs = zip(found.loss_B.tolist(), found.gradient_BQ.norm(dim=1).tolist())
        return [
            {"loss": loss, "grad_norm": norm if isfinite(loss) and isfinite(norm) else None} for loss, norm in pairs
        ]

    def _row(self, position: int, measured: dict[str, float | None], hypothesis: str) -> dict[str, Any]:
        columns = ("utt_id", "corpus", "group", "speaker", "split", *self.group_columns)
        reference = self.split.columns["transcript"][position]
        return {
            "_position": position,
            **{name: self.split.columns[name][position] for name in columns},
            "duration_seconds": self.split.seconds[position],
            **measured,
            "labels": len(self.split.labels[position]),
            "frames": self.split.frames[position],
            "reference": reference,
            "hypothesis": hypothesis,
            **count_errors(reference, hypothesis),
        }
