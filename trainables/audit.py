"""The audit of a frozen model: which utterances does each reduction listen to?

One forward per utterance gives its loss, one backward to the logits its gradient at the output layer. From these follow,
for every reduction, the shares of each class of utterances in the loss and in the gradient (`trainables.shares`).

N audited utterances, B of them in a micro-batch.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from trainables import ctc, distributed, exact_gradients, packing, tables
from trainables.audit_files import Audit, RowFile, audit_schema, text_columns
from trainables.dataset import Split
from trainables.errors import DataError
from trainables.exact_gradients import exact_rows, exact_schema
from trainables.expected_weights import population_size
from trainables.frozen import digest, frozen
from trainables.head_gradients import HeadGradients
from trainables.reductions import Reduction, Update
from trainables.sampling import by_choice
from trainables.share_tables import cosine_rows, cosines_schema, gradient_shares, share_rows, shares_schema
from trainables.shares import Classes, ClassSums, InTraining, Weights
from trainables.tables import LENGTH
from trainables.vocabulary import labels_needed

Precision = Callable[[], AbstractContextManager[Any]]
Keep = Callable[[list[dict[str, Any]]], None]

_BLOCK = 1024  # utterances that are sorted by length together; rows of no more are held at a time


@dataclass(frozen=True)
class _Forward:
    model: nn.Module
    device: torch.device
    precision: Precision

    def __call__(self, batch: ctc.MicroBatch) -> torch.Tensor:
        with self.precision():
            return self.model(**{name: tensor.to(self.device) for name, tensor in batch.inputs.items()}).logits


@dataclass(frozen=True)
class Auditor:
    """Audits a model on some utterances, shared by the workers, in length-sorted micro-batches.

    Attributes:
        split: where the utterances are.
        positions: the audited ones, in order; see `sampling.sample`.
        features: normalisation and attention mask.
        blank: label id of the CTC blank.
        columns: columns whose classes are told apart, beside length bins.
        reductions: see `shares.presets`.
        budget_seconds: padded audio of one forward.
        max_utterances: upper bound of one forward.
        chunk_size: utterances of a micro-batch of stock training, for the reductions that replicate it.
        exact_lengths: put only utterances of the very same length together, so that nothing is padded.
        exact: utterances whose gradient at all trained weights is measured too.
        update_size: utterances of an update of training, which the weights are averaged over; None: all are one update.
        left_out: reductions that are not measured, as the training set lacks groups that they would weigh.

    Raises:
        DataError: a column is called `length`, or none of the utterances can be aligned.
    """

    split: Split
    positions: tuple[int, ...]
    features: Wav2Vec2FeatureExtractor
    blank: int
    columns: tuple[str, ...]
    reductions: tuple[Reduction, ...]
    budget_seconds: float
    max_utterances: int
    chunk_size: int | None = None
    exact_lengths: bool = False
    exact: int = 0
    update_size: int | None = None
    left_out: tuple[str, ...] = ()
    _counted_N: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if LENGTH in self.columns:
            raise DataError(
                f"the group column {LENGTH!r} has the name of the audit's own bins of labels; rename the column, or leave "
                "it out of groups"
            )
        labels, frames = self.split.labels, self.split.frames
        counted_N = np.array([frames[one] >= labels_needed(labels[one]) for one in self.positions], dtype=bool)
        if not counted_N.any():
            raise DataError(
                f"none of the {len(self.positions)} audited utterances has as many frames as its transcript needs; "
                "audit another split, or prepare the data anew"
            )
        object.__setattr__(self, "_counted_N", counted_N)

    @cached_property
    def classes(self) -> tuple[Classes, ...]:
        """Classes of the asked columns, then length bins."""
        of_columns = [Classes.of(name, self._column(name)) for name in dict.fromkeys(self.columns)]
        return (*of_columns, Classes.of_lengths(self._label_count_N))

    @cached_property
    def weights(self) -> Weights:
        """Weights of every reduction for the utterances that can be aligned."""
        counted = np.flatnonzero(self._counted_N)
        return Weights.of(self.reductions, self._update(counted), self._counted_N, self._dealt(counted))

    def _dealt(self, counted: np.ndarray) -> InTraining | None:
        """Let the audited utterances be dealt with those of their split that stand for it."""
        if self.update_size is None:
            return None
        own, rows = {self.positions[place]: None for place in counted}, len(self.split)
        size = population_size(rows, self.update_size, len(own))
        dealt = list(dict.fromkeys([*own, *by_choice(self.split)]) if size > len(own) else own)[:size]
        return InTraining(self.split.update(dealt), self.update_size, rows)

    def key(self, model: nn.Module, *more: str) -> str:
        """Hash all that decides what an audit finds, so that trials which start from one model share one audit.

        Args:
            model: the one to audit.
            more: what else may change its numbers: precision, device.

        Returns:
            16 hexadecimal digits.
        """
        trained = [name for name, weight in model.named_parameters() if weight.requires_grad and self.exact]
        decides = {
            "weights": [digest(model), trained],
            "data": self.split.store.fingerprint,
            "utterances": self._column("utt_id"),
            "labels": [self.split.labels[position] for position in self.positions],
            "inputs": {name: [row[one] for one in self.positions] for name, row in self.split.model_inputs.items()},
            "groups": [self.split.groups, self._update(range(1)).require_groups()[1].tolist()],
            "columns": self.columns,
            "reductions": [str(reduction) for reduction in self.reductions],
            "settings": [self.blank, self.chunk_size, self.update_size, self.exact_lengths, self.exact, *more],
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    def write(self, model: nn.Module, device: torch.device, precision: Precision, folder: Path) -> Audit:
        """Measure, and write audit.parquet, shares.parquet, cosines.parquet, exact.parquet and, last, audit.json.

        Each is whole or not there; an audit whose audit.json is there is whole. The first worker writes.
        """
        if distributed.rank() != 0:
            audit = self.measure(model, device, precision)
        else:
            with RowFile(folder / "audit.parquet", audit_schema(self.columns)) as file:
                audit = self.measure(model, device, precision, file.add)
            for name, rows, schema in (
                ("shares", audit.shares, shares_schema()),
                ("cosines", audit.cosines, cosines_schema()),
                ("exact", audit.exact, exact_schema()),
            ):
                tables.write_parquet(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.parquet")
            tables.write_json(audit.summary, folder / "audit.json")
        distributed.wait_for_all()
        return audit

    def measure(
        self, model: nn.Module, device: torch.device, precision: Precision, keep: Keep = lambda rows: None
    ) -> Audit:
        """Measure a model in eval mode; its weights, gradients and modes stay as they are.

        Args:
            model: a CTC model.
            device: where it is.
            precision: makes the autocast context of one forward.
            keep: is given the rows of audit.parquet, at most a thousand or so at a time, in the order of the utterances.

        Raises:
            DataError: a reduction does not fit the groups, or there are too many classes.
            RuntimeError: the weights changed.
        """
        started = time.perf_counter()
        forward, excluded = _Forward(model, device, precision), 0
        with frozen(model) as weights_digest:
            with HeadGradients(model) as head:
                sums = ClassSums(self.classes, len(self.weights.weight_DN), len(self.reductions), head.size, device)
                for first in range(0, len(self.positions), _BLOCK):
                    places = range(first, min(first + _BLOCK, len(self.positions)))
                    rows = self._measure_block(places, forward, head, sums)
                    excluded += sum(not row["feasible"] for row in rows)
                    keep(rows)
            sums.add_up_workers()
            exact = self._measure_exact(forward) if self.exact else []
        summary = {
            "weights": weights_digest,
            "utterances": len(self.positions),
            "excluded": excluded,
            "split": sorted(set(self._column("split"))),
            "reductions": [str(reduction) for reduction in self.reductions],
            "left_out": list(self.left_out),
            "seconds": time.perf_counter() - started,
        }
        found = (self.weights, sums, gradient_shares(sums))
        return Audit(share_rows(*found), cosine_rows(*found), exact, summary)

    def _measure_block(
        self, places: Sequence[int], forward: _Forward, head: HeadGradients, sums: ClassSums
    ) -> list[dict[str, Any]]:
        """Measure consecutive utterances; every worker gets the rows of all of them, in order."""
        seconds = [self.split.seconds[self.positions[place]] for place in places]
        pack = packing.pack_equal if self.exact_lengths else packing.pack
        parts = pack(seconds, budget_seconds=self.budget_seconds, max_utterances=self.max_utterances)
        rows: list[dict[str, Any]] = []
        for part in packing.share(parts, seconds, distributed.world_size())[distributed.rank()]:
            rows += self._measure_batch(np.array([places[one] for one in part]), forward, head, sums)
        in_order = sorted(distributed.gather_rows(rows), key=itemgetter("_place"))
        return [{name: value for name, value in row.items() if name != "_place"} for row in in_order]

    def _measure_batch(
        self, place_B: np.ndarray, forward: _Forward, head: HeadGradients, sums: ClassSums
    ) -> list[dict[str, Any]]:
        batch = self._batch(place_B)
        with torch.no_grad():
            logits_BTV = forward(batch)
        measured = head.measure(logits_BTV, batch, self.blank)
        loss_B, norm_B, logit_norm_B = (
            tensor.double().cpu().numpy()
            for tensor in (measured.loss_B, measured.gradient_BQ.norm(dim=1), measured.logit_norm_B)
        )
        counts_B = self._counted_N[place_B] & np.isfinite(loss_B) & np.isfinite(norm_B)
        for number in np.unique(measured.head_B):
            chosen = np.flatnonzero(counts_B & (measured.head_B.numpy() == number))
            kept, labels = place_B[chosen], self._label_count_N[place_B[chosen]]
            seconds = [self.split.seconds[self.positions[place]] for place in kept]
            sums.add(
                kept,
                coefficient_DB=self.weights.coefficients(kept.tolist(), loss_B[chosen], labels),
                value_R=self.weights.values(kept.tolist(), loss_B[chosen], labels),
                plain_B=np.column_stack([loss_B[chosen], np.ones(len(kept)), labels, seconds]),
                gradient_BQ=measured.gradient_BQ[chosen],
                first=int(number) * head.layer_size,
            )
        numbers = zip(place_B.tolist(), loss_B.tolist(), counts_B.tolist(), norm_B.tolist(), logit_norm_B.tolist())
        return [self._row(*one) for one in numbers]

    def _row(self, place: int, loss: float, counts: bool, norm: float, logit_norm: float) -> dict[str, Any]:
        position = self.positions[place]
        return {
            "_place": place,
            **{name: self.split.columns[name][position] for name in text_columns(self.columns)},
            "duration_seconds": self.split.seconds[position],
            "loss": loss,
            "labels": len(self.split.labels[position]),
            "frames": self.split.frames[position],
            "feasible": counts,
            "grad_norm": norm if counts else None,
            "logit_grad_norm": logit_norm if counts else None,
        }

    def _measure_exact(self, forward: _Forward) -> list[dict[str, Any]]:
        """Compare the two gradients on utterances that stand for the audited ones."""
        counted = {self.positions[place]: place for place in np.flatnonzero(self._counted_N).tolist()}
        chosen = sorted([counted[position] for position in by_choice(self.split) if position in counted][: self.exact])

        def loss_of(number: int) -> torch.Tensor:
            batch = self._batch(np.array(chosen[number : number + 1]))
            return ctc.losses(forward(batch), batch, self.blank)[0]

        grams = exact_gradients.measure(forward.model, loss_of, len(chosen))
        classes = [one.taken(chosen) for one in self.classes]
        return exact_rows(grams, self.weights.taken(chosen), classes, self._label_count_N[chosen])

    def _batch(self, place_B: np.ndarray) -> ctc.MicroBatch:
        positions = [self.positions[place] for place in place_B]
        return self.split.micro_batch(positions, self.features, positions)

    def _update(self, places: Sequence[int] | np.ndarray) -> Update:
        return self.split.update([self.positions[place] for place in places], self.chunk_size)

    def _column(self, name: str) -> list[Any]:
        return [self.split.columns[name][one] for one in self.positions]

    @cached_property
    def _label_count_N(self) -> np.ndarray:
        return np.array([len(self.split.labels[position]) for position in self.positions])
