"""One split of a store as a trial sees it: labels, frames, groups; audio only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import packing
from trainables.corpora.audio import SAMPLE_RATE_HZ
from trainables.corpora.store import Store
from trainables.ctc import MicroBatch, assemble, frame_counts
from trainables.reductions import Update
from trainables.specaugment import TimeMasks
from trainables.usage import WHOLE, Usage
from trainables.vocabulary import Vocabulary, labels_needed


@dataclass(frozen=True)
class Split:
    """The utterances of one split, in the order of their names.

    Attributes:
        store: where the audio is.
        row: place of each utterance in the store.
        columns: utt_id, transcript, speaker, ... and the group columns, as lists.
        labels: label ids of each utterance.
        frames: frames of each utterance.
        seconds: length of each utterance in seconds.
        groups: the classes that reductions weigh, by name in alphabetical order.
        group_code: class of each utterance, as a place in `groups`.
        model_inputs: what the model is given of each utterance beside its audio, by the name of its argument.
        class_code: number of each utterance's class for the auxiliary classifier, -1 where it has none; None: no
            classifier.
        training_count_G: training utterances of each group, where these are not the training utterances.
    """

    store: Store
    row: list[int]
    columns: dict[str, list[Any]]
    labels: list[list[int]]
    frames: list[int]
    seconds: list[float]
    groups: tuple[str, ...]
    group_code: list[int]
    model_inputs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    class_code: list[int] | None = None
    training_count_G: np.ndarray | None = None

    @property
    def group_counts(self) -> np.ndarray:
        """Utterances of each group."""
        return np.bincount(self.group_code, minlength=len(self.groups))

    def __len__(self) -> int:
        return len(self.row)

    def micro_batch(
        self, positions: Sequence[int], features: Wav2Vec2FeatureExtractor, place: Sequence[int]
    ) -> MicroBatch:
        """Load utterances; `place` says what each is called in the update."""
        batch = assemble(
            place,
            [self.store.samples(self.row[position]) for position in positions],
            [self.labels[position] for position in positions],
            [self.frames[position] for position in positions],
            features,
        )
        for name, values in self.model_inputs.items():
            batch.inputs[name] = torch.tensor([values[position] for position in positions], dtype=torch.long)
        return batch

    def only(self, positions: Sequence[int]) -> Split:
        """Take some of the utterances, with the groups that these have."""
        names = [self.groups[self.group_code[position]] for position in positions]
        groups = tuple(sorted(set(names)))
        return replace(
            self,
            row=[self.row[position] for position in positions],
            columns={name: [values[position] for position in positions] for name, values in self.columns.items()},
            labels=[self.labels[position] for position in positions],
            frames=[self.frames[position] for position in positions],
            seconds=[self.seconds[position] for position in positions],
            groups=groups,
            group_code=[groups.index(name) for name in names],
            model_inputs={name: [values[p] for p in positions] for name, values in self.model_inputs.items()},
            class_code=None if self.class_code is None else [self.class_code[position] for position in positions],
            training_count_G=None,
        )

    def update(self, positions: Sequence[int], chunk_size: int | None = None) -> Update:
        """Describe an update to the reduction.

        Args:
            positions: its utterances, in the order of dealing.
            chunk_size: utterances of a micro-batch of stock training, for the reductions that replicate it.
        """
        return Update(
            label_count_N=np.array([len(self.labels[position]) for position in positions], dtype=int),
            frame_count_N=np.array([self.frames[position] for position in positions], dtype=int),
            group_N=np.array([self.group_code[position] for position in positions], dtype=int),
            groups=self.groups,
            training_count_G=self.group_counts if self.training_count_G is None else self.training_count_G,
            chunk_N=np.arange(len(positions)) // (chunk_size or max(1, len(positions))),
        )


def split(
    store: Store,
    name: str | Sequence[str],
    vocabulary: Vocabulary,
    model: Wav2Vec2ForCTC,
    columns: Sequence[str],
    reduction_group: str = "group",
    usage: Usage = WHOLE,
) -> Split:
    """Take one split of a store, or several together.

    Args:
        store: the prepared data.
        name: train, validation or test; several to have them together.
        vocabulary: turns transcripts into labels.
        model: tells how many frames so much audio gives.
        columns: columns to carry along.
        reduction_group: column whose classes reductions weigh.
        usage: which utterances are used at all, and in which split.

    Raises:
        RuntimeError: an utterance cannot be aligned; preparation rejects those, so the store does not fit the model.
    """
    names = (name,) if isinstance(name, str) else tuple(name)
    wanted = ("utt_id", "transcript", "speaker", "corpus", "group", "split", "samples", reduction_group, *columns)
    rows, used = usage.columns(store, wanted)
    # By name, not by place in the manifest: the order of its rows must not decide which utterances share an update.
    places = sorted(
        (place for place, value in enumerate(used["split"]) if value in names), key=lambda place: used["utt_id"][place]
    )
    row = [rows[place] for place in places]
    kept = {column: [values[place] for place in places] for column, values in used.items()}
    labels = [vocabulary.encode(text) for text in kept["transcript"]]
    frames = frame_counts(model, kept["samples"])
    for utt_id, ids, count in zip(kept["utt_id"], labels, frames):
        if count < labels_needed(ids):
            raise RuntimeError(f"{utt_id}: {count} frames for {labels_needed(ids)} labels; prepare the store anew")
    groups = tuple(sorted(set(kept[reduction_group])))
    return Split(
        store=store,
        row=row,
        columns=kept,
        labels=labels,
        frames=frames,
        seconds=[samples / SAMPLE_RATE_HZ for samples in kept["samples"]],
        groups=groups,
        group_code=[groups.index(value) for value in kept[reduction_group]],
    )


@dataclass(frozen=True)
class Share:
    """One update as one worker sees it: all of it described, its own micro-batches loaded.

    Attributes:
        update: the utterances that the reduction weighs, in order: all, but for those that get no CTC loss.
        micro_batches: this worker's share; may be empty.
        audio_seconds: audio of the whole update, without padding.
        padding_fraction: part of the audio of the whole update that is padding.
        weighed_N: whether each of the N utterances dealt is weighed; None: all are.
        class_N: class of each of the N utterances for the auxiliary classifier, -1 where it has none; None: no
            classifier.
    """

    update: Update
    micro_batches: list[MicroBatch]
    audio_seconds: float
    padding_fraction: float
    weighed_N: np.ndarray | None = None
    class_N: np.ndarray | None = None

    def __len__(self) -> int:
        """Count the utterances dealt, N."""
        return len(self.update) if self.weighed_N is None else len(self.weighed_N)

    def spread(self, values: np.ndarray, fill: float = 0) -> np.ndarray:
        """Give each utterance dealt its value; one that is not weighed gets `fill`."""
        if self.weighed_N is None:
            return values
        spread_N = np.full(len(self), fill, dtype=values.dtype)
        spread_N[self.weighed_N] = values
        return spread_N

    def weighed(self, values_N: np.ndarray) -> np.ndarray:
        """Keep the values of the utterances that are weighed."""
        return values_N if self.weighed_N is None else values_N[self.weighed_N]


@dataclass(frozen=True)
class Loader:
    """Turns positions of an update into this worker's share of it (the `collate_fn` of the data loader).

    Attributes:
        split: the training utterances.
        features: normalisation and attention mask.
        budget_seconds: padded audio of one micro-batch.
        max_utterances: upper bound of a micro-batch.
        rank: number of this worker.
        workers: workers that share the update.
        masks: SpecAugment in time; None: none.
        sampler: knows the epoch, which masks depend on.
        without_ctc: positions of the utterances that get no CTC loss.
    """

    split: Split
    features: Wav2Vec2FeatureExtractor
    budget_seconds: float
    max_utterances: int
    rank: int = 0
    workers: int = 1
    masks: TimeMasks | None = None
    sampler: UpdateSampler | None = field(default=None, compare=False)
    without_ctc: frozenset[int] = frozenset()

    @cached_property
    def weighed(self) -> Split:
        """The training utterances that the reduction weighs."""
        return self.split if not self.without_ctc else self.split.only(list(self._place))

    @cached_property
    def _place(self) -> dict[int, int]:
        """Position among those that are weighed, by position in the split."""
        kept = (position for position in range(len(self.split)) if position not in self.without_ctc)
        return {position: place for place, position in enumerate(kept)}

    def __call__(self, positions: list[int]) -> Share:
        """Pack the update, take this worker's share and load it."""
        seconds = [self.split.seconds[position] for position in positions]
        parts = packing.pack(seconds, budget_seconds=self.budget_seconds, max_utterances=self.max_utterances)
        shares = packing.share(parts, seconds, self.workers)
        weighed = [self._place[position] for position in positions if position in self._place]
        classes = self.split.class_code
        return Share(
            update=self.weighed.update(weighed, self.max_utterances),
            micro_batches=[self._micro_batch(positions, part) for part in shares[self.rank]],
            audio_seconds=float(sum(seconds)),
            padding_fraction=packing.padding_fraction([part for worker in shares for part in worker], seconds),
            weighed_N=np.array([position in self._place for position in positions]) if self.without_ctc else None,
            class_N=None if classes is None else np.array([classes[position] for position in positions]),
        )

    def _micro_batch(self, positions: Sequence[int], part: Sequence[int]) -> MicroBatch:
        utterances = [positions[place] for place in part]
        batch = self.split.micro_batch(utterances, self.features, part)
        if self.masks is not None:
            epoch = self.sampler.epoch if self.sampler is not None else 0
            drawn = [self.masks.draw(self.split.frames[one], epoch, one) for one in utterances]
            masked_BT = np.zeros((len(drawn), batch.frames_when_padded), dtype=bool)
            for row, masked_T in zip(masked_BT, drawn):
                row[: len(masked_T)] = masked_T
            batch.inputs["mask_time_indices"] = torch.from_numpy(masked_BT)
        return batch


class UpdateSampler:
    """Yields whole updates; seed and epoch alone decide which utterances share one."""

    def __init__(self, rows: int, update_size: int, seed: int) -> None:
        self.rows, self.update_size, self.seed = rows, update_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Deal anew for this epoch."""
        self.epoch = epoch

    def __iter__(self):
        """Yield the positions of one update after the other."""
        return iter(packing.updates(self.rows, self.update_size, self.seed, self.epoch))

    def __len__(self) -> int:
        return -(-self.rows // self.update_size)


class UpdateLoader(DataLoader):
    """Yields one `Share` per update. The Trainer calls `set_epoch` before each epoch."""

    def __init__(self, loader: Loader, sampler: UpdateSampler, num_workers: int = 0) -> None:
        rows = range(len(loader.split))
        super().__init__(rows, batch_sampler=sampler, collate_fn=loader, num_workers=num_workers)  # type: ignore[arg-type]
        self.sampler_of_updates, self.loader = sampler, loader

    def set_epoch(self, epoch: int) -> None:
        """Deal the utterances anew for this epoch."""
        self.sampler_of_updates.set_epoch(epoch)
