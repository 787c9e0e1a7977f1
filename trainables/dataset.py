"""One split of a store as a trial sees it: labels, frames, groups; audio only when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import packing
from trainables.corpora.audio import SAMPLE_RATE_HZ
from trainables.corpora.store import Store
from trainables.ctc import MicroBatch, assemble, frame_counts
from trainables.reductions import Update
from trainables.vocabulary import Vocabulary, labels_needed


@dataclass(frozen=True)
class Split:
    """The utterances of one split, in the order of the store.

    Attributes:
        store: where the audio is.
        row: place of each utterance in the store.
        columns: utt_id, transcript, speaker, ... and the group columns, as lists.
        labels: label ids of each utterance.
        frames: frames of each utterance.
        seconds: length of each utterance in seconds.
    """

    store: Store
    row: list[int]
    columns: dict[str, list[Any]]
    labels: list[list[int]]
    frames: list[int]
    seconds: list[float]

    def __len__(self) -> int:
        return len(self.row)

    def micro_batch(
        self, positions: Sequence[int], features: Wav2Vec2FeatureExtractor, place: Sequence[int]
    ) -> MicroBatch:
        """Load utterances; `place` says what each is called in the update."""
        return assemble(
            place,
            [self.store.samples(self.row[position]) for position in positions],
            [self.labels[position] for position in positions],
            [self.frames[position] for position in positions],
            features,
        )

    def update(self, positions: Sequence[int]) -> Update:
        """Describe an update to the reduction."""
        return Update(
            label_count_N=np.array([len(self.labels[position]) for position in positions]),
            frame_count_N=np.array([self.frames[position] for position in positions]),
        )


def split(store: Store, name: str, vocabulary: Vocabulary, model: Wav2Vec2ForCTC, columns: Sequence[str]) -> Split:
    """Take one split of a store.

    Raises:
        RuntimeError: an utterance cannot be aligned; preparation rejects those, so the store does not fit the model.
    """
    wanted = dict.fromkeys(("utt_id", "transcript", "speaker", "corpus", "group", "split", "samples", *columns))
    every = store.columns(list(wanted))
    row = [position for position, value in enumerate(every["split"]) if value == name]
    kept = {column: [values[position] for position in row] for column, values in every.items()}
    labels = [vocabulary.encode(text) for text in kept["transcript"]]
    frames = frame_counts(model, kept["samples"])
    for utt_id, ids, count in zip(kept["utt_id"], labels, frames):
        if count < labels_needed(ids):
            raise RuntimeError(f"{utt_id}: {count} frames for {labels_needed(ids)} labels; prepare the store anew")
    return Split(store, row, kept, labels, frames, [samples / SAMPLE_RATE_HZ for samples in kept["samples"]])


@dataclass(frozen=True)
class Share:
    """One update as one worker sees it: all of it described, its own micro-batches loaded.

    Attributes:
        update: every utterance of the update, in order.
        micro_batches: this worker's share; may be empty.
        audio_seconds: audio of the whole update, without padding.
        padding_fraction: part of the audio of the whole update that is padding.
    """

    update: Update
    micro_batches: list[MicroBatch]
    audio_seconds: float
    padding_fraction: float


@dataclass(frozen=True)
class Loader:
    """Turns positions of an update into this worker's share of it (the `collate_fn` of the data loader)."""

    split: Split
    features: Wav2Vec2FeatureExtractor
    budget_seconds: float
    max_utterances: int
    rank: int = 0
    workers: int = 1

    def __call__(self, positions: list[int]) -> Share:
        """Pack the update, take this worker's share and load it."""
        seconds = [self.split.seconds[position] for position in positions]
        parts = packing.pack(seconds, budget_seconds=self.budget_seconds, max_utterances=self.max_utterances)
        shares = packing.share(parts, seconds, self.workers)
        return Share(
            update=self.split.update(positions),
            micro_batches=[
                self.split.micro_batch([positions[place] for place in part], self.features, part)
                for part in shares[self.rank]
            ],
            audio_seconds=float(sum(seconds)),
            padding_fraction=packing.padding_fraction([part for worker in shares for part in worker], seconds),
        )


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
        self.sampler_of_updates = sampler

    def set_epoch(self, epoch: int) -> None:
        """Deal the utterances anew for this epoch."""
        self.sampler_of_updates.set_epoch(epoch)
