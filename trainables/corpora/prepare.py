"""From a manifest to a store: decode once, reject what cannot be used and say why."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from trainables import variants
from trainables.corpora import audio, sample, store
from trainables.corpora.manifest import Manifest, audio_path, read
from trainables.corpora.store import Store
from trainables.errors import DataError
from trainables.vocabulary import Vocabulary, labels_needed, normalisation_rule, normalise

PREPARATION_VERSION = 1
_ROWS_PER_BATCH = 256

Row = dict[str, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Model:
    """What must be known of a model to tell which utterances it can be trained on.

    Attributes:
        vocabulary: its labels; None: made from the training transcripts.
        convolutions: (kernel, stride) of each layer that turns samples into frames.
    """

    vocabulary: Vocabulary | None
    convolutions: tuple[tuple[int, int], ...]

    def frames(self, samples: int) -> int:
        """Count the frames that this many samples give (0 when they are shorter than the receptive field)."""
        for kernel, stride in self.convolutions:
            samples = max(0, (samples - kernel) // stride + 1)
        return samples


def prepare(
    source: str, folder: Path, models: Sequence[tuple[str, str | None]], progress: Progress | None = None
) -> Store:
    """Return the store of a corpus, made on the first call and found again on later ones.

    Args:
        source: "sample", the path of a manifest, or the path of a prepared store.
        folder: where stores are kept; the store's own folder is named by what went into it.
        models: (model_type, pretrained_model_name) of every model of the study; an utterance that one of them
            cannot be trained on is rejected for all, so that all are trained on the same utterances.
        progress: called with (utterances done, utterances in all).

    Raises:
        DataError: the source cannot be used, or nothing of its train or validation split can.
    """
    if (Path(source) / store.DESCRIPTION).is_file():
        return Store.open(source)
    manifest = read(sample.manifest_path() if source == "sample" else Path(source).expanduser())
    known = [_model(model_type, name) for model_type, name in dict.fromkeys(models)]
    path = folder / f"{manifest.path.parent.name if source == 'sample' else manifest.path.stem}-{_key(manifest, known)}"
    if (path / store.DESCRIPTION).is_file():
        return Store.open(path)
    preparation = _Preparation(manifest, known, source)
    return store.write(path, lambda: preparation.batches(progress), lambda: preparation.rejects, preparation.describe)


def _model(model_type: str, pretrained_model_name: str | None) -> Model:
    module = variants.load("trainables.models", model_type)
    return Model(module.vocabulary(pretrained_model_name), tuple(module.convolutions(pretrained_model_name)))


def _key(manifest: Manifest, models: Sequence[Model]) -> str:
    """Hash what the store is made from: manifest, size and time of each file, models, version of this code."""
    whole = hashlib.sha256(f"{PREPARATION_VERSION} {models}".encode())
    for row in manifest.rows:
        whole.update(json.dumps(row, sort_keys=True).encode())
        try:
            stat = audio_path(manifest.path, row["audio"]).stat()
            whole.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
        except OSError:
            whole.update(b"missing")
    return whole.hexdigest()[:8]


class _Preparation:
    """One pass over a manifest: holds what is rejected and what has been seen."""

    def __init__(self, manifest: Manifest, models: Sequence[Model], source: str) -> None:
        self.manifest, self.models, self.source = manifest, models, source
        self.rejects: list[dict[str, str]] = []
        self._ids: set[str] = set()
        self._content: dict[tuple[str, str], str] = {}
        transcripts = [normalise(row["transcript"]) for row in manifest.rows if row["split"] == "train"]
        self.vocabulary = Vocabulary.from_transcripts(transcripts)

    def batches(self, progress: Progress | None) -> Iterator[list[Row]]:
        """Decode on all cores, in the order of the manifest, holding a few hundred utterances at a time."""
        total, done = len(self.manifest.rows), 0
        rows = iter(self.manifest.rows)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            while chunk := list(islice(rows, _ROWS_PER_BATCH)):
                kept = [self._accept(row, result) for row, result in zip(chunk, pool.map(self._decode, chunk))]
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
                yield [row for row in kept if row is not None]

    def describe(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Describe the finished store; refuse one that cannot be trained on."""
        recipe = {
            "version": PREPARATION_VERSION,
            "text": normalisation_rule(),
            "rate": audio.SAMPLE_RATE_HZ,
            "vocabulary": list(self.vocabulary.tokens),
        }
        reasons = store.by_reason(self.rejects)
        for split in ("train", "validation"):
            if not any(row["split"] == split for row in rows):
                raise DataError(
                    f"{self.manifest.path}: no usable utterance in the split {split!r} "
                    f"(usable: {len(rows)}, rejected: {reasons or 'none'}); both train and validation are needed"
                )
        return {
            "fingerprint": store.fingerprint(rows, recipe),
            "source": self.source,
            "preparation_version": PREPARATION_VERSION,
            "sample_rate_hz": audio.SAMPLE_RATE_HZ,
            "text_normalisation": normalisation_rule(),
            "vocabulary": list(self.vocabulary.tokens),
            "utterances": len(rows),
            "hours": round(sum(row["samples"] for row in rows) / audio.SAMPLE_RATE_HZ / 3600, 4),
            "counts": store.counts(rows),
            "rejects": reasons,
            "rejects_by_group": store.rejects_by_group(self.rejects),
            "filled": self.manifest.filled,
        }

    def _decode(self, row: Mapping[str, str]) -> tuple[str, Any] | audio.UnusableAudio:
        path = audio_path(self.manifest.path, row["audio"])
        try:
            encoded = path.read_bytes() if row["audio"] else b""
        except OSError as error:
            return audio.UnusableAudio("missing_file", f"{path}: {error.strerror}")
        if not encoded:
            return audio.UnusableAudio("empty", f"{path}: no bytes" if row["audio"] else "no audio is named")
        try:
            return hashlib.sha256(encoded).hexdigest(), audio.decode(encoded)
        except audio.UnusableAudio as unusable:
            return audio.UnusableAudio(unusable.reason, f"{path}: {unusable.detail}")

    def _accept(self, row: Mapping[str, str], result: tuple[str, Any] | audio.UnusableAudio) -> Row | None:
        transcript = normalise(row["transcript"])
        if isinstance(result, audio.UnusableAudio):
            return self._reject(row, result.reason, result.detail)
        sha256, samples = result
        if problem := self._problem(row, transcript, sha256, len(samples)):
            return self._reject(row, *problem)
        self._ids.add(row["utt_id"])
        self._content[sha256, transcript] = row["utt_id"]
        kept = {key: value for key, value in row.items() if key not in ("audio", "transcript", "duration_seconds")}
        return kept | {
            "transcript": transcript,
            "transcript_raw": row["transcript"],
            "audio_sha256": sha256,
            "audio": samples.astype("<i2").tobytes(),
            "samples": len(samples),
            "duration_seconds": len(samples) / audio.SAMPLE_RATE_HZ,
        }

    def _problem(self, row: Mapping[str, str], transcript: str, sha256: str, samples: int) -> tuple[str, str] | None:
        if row["utt_id"] in self._ids:
            return "duplicate", f"utt_id {row['utt_id']!r} stands in an earlier row"
        if (sha256, transcript) in self._content:
            return "duplicate", f"same audio and transcript as {self._content[sha256, transcript]!r}"
        if not transcript:
            return "empty_transcript", f"{row['transcript']!r} has no characters after normalisation"
        for model in self.models:
            vocabulary = model.vocabulary or self.vocabulary
            if unknown := vocabulary.unknown_characters(transcript):
                return "unknown_characters", f"{unknown!r} in {transcript!r} are not in the vocabulary"
            frames, needed = model.frames(samples), labels_needed(vocabulary.encode(transcript))
            if frames < needed:
                return (
                    "transcript_too_long",
                    f"{needed} frames needed to align {transcript!r}, the audio gives {frames}",
                )
        return None

    def _reject(self, row: Mapping[str, str], reason: str, detail: str) -> None:
        kept = {name: row[name] for name in ("utt_id", "split", "group", "speaker")}
        self.rejects.append({**kept, "reason": reason, "detail": detail})
