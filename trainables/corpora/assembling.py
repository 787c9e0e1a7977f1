"""Put together what is known by name and what was found in the audio: the rows of a store, and its rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.corpora import splits
from trainables.corpora.audio import SAMPLE_RATE_HZ
from trainables.corpora.recordings import Found, Recording, Rejected, readable
from trainables.vocabulary import normalise

DUPLICATE = "duplicate"
_COMPUTED = ("transcript", "transcript_raw", "audio_sha256", "samples", "duration_seconds", "channels_used")


@dataclass
class Assembled:
    """The content of a store.

    Attributes:
        rows: columns of each utterance, same keys in each.
        places: (shard, row within it) of the audio of each.
        rejects: what cannot be used, in the order of the corpus behind what the importer rejected; without a split
            where a named one was asked for.
        channels_left_out: files of recordings with several that could not be used, while others could, by reason.
        several_channels: files with more than one channel, whose mean was taken.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    rejects: list[dict[str, str]] = field(default_factory=list)
    channels_left_out: dict[str, int] = field(default_factory=dict)
    several_channels: int = 0


def assemble(found: Found, shards: Sequence[Sequence[Mapping[str, Any]]], split: str = "") -> Assembled:
    """Join recordings with their decoded audio, in their order.

    Args:
        found: recordings and rejects of an importer.
        shards: rows of `shards.SCHEMA` without audio, one per recording over all shards.
        split: a named split; "": that of the recordings.

    Raises:
        DataError: the split does not fit the data.
    """
    result = Assembled(rejects=[_as_reject(reject) for reject in found.rejects])
    given = dict.fromkeys(name for recording in found.recordings for name in recording.more)
    names = [name for name in given if name not in _COMPUTED]
    several = any(len(recording.audio) > 1 for recording in found.recordings)
    duplicates = Duplicates()
    places = ((number, place) for number, shard in enumerate(shards) for place in range(len(shard)))
    left_out: Counter[str] = Counter()
    for recording, (number, place) in zip(found.recordings, places, strict=True):
        decoded = shards[number][place]
        transcript = normalise(recording.transcript)
        if problem := _problem(recording, decoded, transcript, duplicates):
            result.rejects.append(reject(recording, *problem))
            continue
        left_out.update(filter(None, decoded["left_out"].split(",")))
        duplicates.add(recording.utt_id, decoded["audio_sha256"], transcript)
        result.several_channels += decoded["several_channels"]
        channels = {"channels_used": decoded["files"]} if several else {}
        result.rows.append(_row(recording, names, transcript, decoded) | channels)
        result.places.append((number, place))
    result.channels_left_out = dict(left_out.most_common())
    if split and result.rows:
        _assign(result.rows, split)
        # A named split is made of what can be used; that of the importer is another one.
        for rejected in result.rejects:
            rejected["split"] = ""
    return result


def _assign(rows: Sequence[dict[str, Any]], split: str) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for row, name in zip(rows, splits.assign(split, columns)):
        row["split"] = name


class Duplicates:
    """Finds what stands in a corpus twice."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._content: dict[tuple[str, str], str] = {}

    def add(self, utt_id: str, audio_sha256: str, transcript: str) -> None:
        """Remember an utterance that is kept."""
        self._ids.add(utt_id)
        self._content[audio_sha256, transcript] = utt_id

    def problem(self, utt_id: str, audio_sha256: str, transcript: str) -> tuple[str, str] | None:
        """Return reason and detail where an utterance was there before."""
        if utt_id in self._ids:
            return DUPLICATE, f"utt_id {utt_id!r} stands in an earlier row"
        if (earlier := self._content.get((audio_sha256, transcript))) is not None:
            return DUPLICATE, f"same audio and transcript as {earlier!r}"
        return None


def reject(recording: Recording | Rejected, reason: str, detail: str) -> dict[str, str]:
    """Return a row of the rejects table."""
    names = ("utt_id", "split", "group", "speaker")
    return {**{name: getattr(recording, name) for name in names}, "reason": reason, "detail": detail}


def _as_reject(rejected: Rejected) -> dict[str, str]:
    return reject(rejected, rejected.reason, rejected.detail)


def _problem(
    recording: Recording, decoded: Mapping[str, Any], transcript: str, duplicates: Duplicates
) -> tuple[str, str] | None:
    if decoded["reason"] is not None:
        return decoded["reason"], decoded["detail"]
    if problem := duplicates.problem(recording.utt_id, decoded["audio_sha256"], transcript):
        return problem
    if readable(recording.transcript) != recording.transcript:
        return "unreadable_transcript", f"{recording.transcript!r} holds what is no character: bytes, or half of a pair"
    if not transcript:
        return "empty_transcript", f"{recording.transcript!r} has no characters after normalisation"
    return None


def _row(recording: Recording, names: Sequence[str], transcript: str, decoded: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "utt_id": recording.utt_id,
        "speaker": recording.speaker,
        "corpus": recording.corpus,
        "group": recording.group,
        "split": recording.split,
        **{name: recording.more.get(name, "") for name in names},
        "transcript": transcript,
        "transcript_raw": recording.transcript,
        "audio_sha256": decoded["audio_sha256"],
        "samples": decoded["samples"],
        "duration_seconds": decoded["samples"] / SAMPLE_RATE_HZ,
    }
