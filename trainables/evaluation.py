"""Score a model on a split: loss, greedy transcript and errors of each utterance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import ctc, decoding, distributed, packing
from trainables.dataset import Split
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
    ) -> list[dict[str, Any]]:
        """Measure every utterance in eval mode, without dropout or SpecAugment.

        Args:
            model: left in the mode in which it came.
            device: where it is.
            precision: makes the autocast context of one forward.

        Returns:
            one row per utterance in the order of their names, the same list on every worker: its columns, loss (nats),
            labels, frames, reference, hypothesis and the error counts.
        """
        was_training = model.training
        model.eval()
        rows: list[dict[str, Any]] = []
        for positions in self._share():
            batch = self.split.micro_batch(positions, self.features, positions)
            with precision():
                logits_BTV = model(**{name: tensor.to(device) for name, tensor in batch.inputs.items()}).logits
            loss_B = ctc.losses(logits_BTV, batch, self.vocabulary.blank).cpu().tolist()
            best_B = decoding.best_labels(logits_BTV, batch.frame_count_B)
            rows += [
                self._row(position, loss, self.vocabulary.decode(best))
                for position, loss, best in zip(positions, loss_B, best_B)
            ]
        model.train(was_training)
        in_order = sorted(distributed.gather_rows(rows), key=itemgetter("_position"))
        return [{name: value for name, value in row.items() if name != "_position"} for row in in_order]

    def _share(self) -> list[list[int]]:
        bounds: dict[str, Any] = {"budget_seconds": self.budget_seconds, "max_utterances": self.max_utterances}
        pack = packing.pack_equal if self.exact_lengths else packing.pack
        parts = pack(self.split.seconds, **bounds)
        return packing.share(parts, self.split.seconds, distributed.world_size())[distributed.rank()]

    def _row(self, position: int, loss: float, hypothesis: str) -> dict[str, Any]:
        columns = ("utt_id", "corpus", "group", "speaker", "split", *self.group_columns)
        reference = self.split.columns["transcript"][position]
        return {
            "_position": position,
            **{name: self.split.columns[name][position] for name in columns},
            "duration_seconds": self.split.seconds[position],
            "loss": loss,
            "labels": len(self.split.labels[position]),
            "frames": self.split.frames[position],
            "reference": reference,
            "hypothesis": hypothesis,
            **count_errors(reference, hypothesis),
        }
