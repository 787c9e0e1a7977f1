"""Decode a stretch of recordings into one Arrow file; runs in processes of its own, so it imports no torch.

A shard has one row per recording, in their order: audio that can be used, or the reason why it cannot.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainables.corpora import audio, references, writing
from trainables.corpora.audio import Sound, UnusableAudio
from trainables.corpora.recordings import readable

SCHEMA = pa.schema(
    [
        ("audio", pa.large_binary()),
        ("samples", pa.int64()),
        ("files", pa.int64()),
        ("several_channels", pa.int64()),
        ("audio_sha256", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("left_out", pa.string()),
    ]
)
# What a process holds at a time: a quarter of an hour of audio, or many short words.
_BATCH_BYTES, _BATCH_ROWS = 1 << 25, 512

Row = dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """What one process decodes at a time.

    Attributes:
        folder: of the store that is being made.
        name: of the Arrow file in it.
        recordings: references of the sound files of each recording.
    """

    folder: Path
    name: str
    recordings: tuple[tuple[str, ...], ...]


def write(shard: Shard) -> tuple[int, dict[str, Any]]:
    """Decode a shard, unless that was done before, and write it whole.

    Returns:
        the number of recordings; name, size and hash of the file.
    """
    path = shard.folder / shard.name
    if not path.is_file():
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
                for rows in _batches(shard.recordings):
                    writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
            writing.flush_to_disk(unfinished)
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return len(shard.recordings), writing.file_entry(shard.folder, shard.name)


def read(path: Path) -> list[Row]:
    """Return the rows of a shard without their audio."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all().drop_columns(["audio"]).to_pylist()


def _batches(recordings: Sequence[tuple[str, ...]]) -> Iterator[list[Row]]:
    rows: list[Row] = []
    held = 0
    for recording in recordings:
        rows.append(row := decode(recording))
        held += len(row["audio"])
        if held >= _BATCH_BYTES or len(rows) >= _BATCH_ROWS:
            yield rows
            rows, held = [], 0
    if rows:
        yield rows


def decode(recording: Sequence[str]) -> Row:
    """Read and decode one recording; of several files the mean, without those that cannot be used.

    Returns:
        a row of `SCHEMA`; `reason` is None where there is audio; `files`: how many were used, `several_channels`: how
        many of them have more than one channel; `left_out` has the reasons, with commas between, for which files were
        left out while others could be used.
    """
    parts, faults = [], []
    for reference in recording:
        try:
            encoded = references.read(reference) if reference else b""
            if not encoded:
                raise UnusableAudio("empty", f"{reference}: no bytes" if reference else "no audio is named")
            parts.append(_sound(encoded, reference))
        except UnusableAudio as unusable:
            faults.append(unusable)
    if not parts:
        return _rejected(faults[0] if faults else UnusableAudio("empty", "no audio is named"))
    try:
        samples_S = audio.as_int16(audio.mean([part.samples_S for part in parts]))
    except UnusableAudio as unusable:
        return _rejected(UnusableAudio(unusable.reason, f"{', '.join(recording)}: {unusable.detail}"))
    hashes = [part.sha256 for part in parts]
    together = hashes[0] if len(recording) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    detail = readable("; ".join(fault.detail for fault in faults)) or None
    return {
        "audio": samples_S.astype("<i2").tobytes(), "samples": len(samples_S), "files": len(parts),
        "several_channels": sum(part.channels > 1 for part in parts),
        "audio_sha256": together, "reason": None, "detail": detail,
        "left_out": ",".join(fault.reason for fault in faults),
    }  # fmt: skip


def _sound(encoded: bytes, reference: str) -> Sound:
    """Decode and check one file; a dead microphone would only make the mean of the others quieter."""
    try:
        sound = audio.read(encoded)
        audio.check(sound.samples_S)
        return sound
    except UnusableAudio as unusable:
        raise UnusableAudio(unusable.reason, f"{reference}: {unusable.detail}") from unusable


def _rejected(unusable: UnusableAudio) -> Row:
    empty = {"audio": b"", "samples": 0, "files": 0, "several_channels": 0, "audio_sha256": "", "left_out": ""}
    return {**empty, "reason": unusable.reason, "detail": readable(unusable.detail)}
