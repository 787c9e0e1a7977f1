"""What a store says of its content: fingerprint, counts, what was rejected."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainables.corpora.audio import SAMPLE_RATE_HZ
from trainables.vocabulary import Vocabulary, normalisation_rule

#: Part of every fingerprint. Raise it when the same files would give other samples or transcripts.
PREPARATION_VERSION = 2
#: Labels of the wav2vec2 checkpoints for English.
_ENGLISH = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")


def describe(
    rows: Sequence[Mapping[str, Any]], rejects: Sequence[Mapping[str, str]], more: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe a store: the content of `store.json`, save what it says of its files.

    Args:
        rows: its utterances, without their audio.
        rejects: what was rejected.
        more: further entries (source, notes ...).
    """
    vocabulary = Vocabulary.from_transcripts(row["transcript"] for row in rows if row["split"] == "train")
    return {
        "fingerprint": fingerprint(rows, vocabulary),
        "preparation_version": PREPARATION_VERSION,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "text_normalisation": normalisation_rule(),
        "vocabulary": list(vocabulary.tokens),
        "utterances": len(rows),
        "hours": round(sum(row["samples"] for row in rows) / SAMPLE_RATE_HZ / 3600, 4),
        "counts": counts(rows),
        "rejects": by_reason(rejects),
        "rejects_by_group": rejects_by_group(rejects),
        "other_characters": other_characters(row["transcript"] for row in rows),
        **more,
    }


def fingerprint(rows: Sequence[Mapping[str, Any]], vocabulary: Vocabulary) -> str:
    """Hash the utterances and how they were prepared; the order of the rows does not count.

    The audio enters by the hash of what was decoded, before it was resampled (`audio_sha256`), so that the fingerprint is
    the same on every machine, whatever version of the decoder and resampler it has.
    """
    recipe = {
        "version": PREPARATION_VERSION,
        "text": normalisation_rule(),
        "rate": SAMPLE_RATE_HZ,
        "vocabulary": list(vocabulary.tokens),
    }
    whole = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for line in sorted(json.dumps(dict(row), sort_keys=True, ensure_ascii=False) for row in rows):
        whole.update(line.encode())
    return whole.hexdigest()[:16]


def counts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Count utterances, speakers and seconds by split and group."""
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["split"], row["group"]), []).append(row)
    return [
        {
            "split": split,
            "group": group,
            "utterances": len(cell),
            "speakers": len({(row["corpus"], row["speaker"]) for row in cell}),
            "seconds": round(sum(row["samples"] for row in cell) / SAMPLE_RATE_HZ, 3),
        }
        for (split, group), cell in sorted(cells.items())
    ]


def by_reason(rejects: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """Count rejected utterances by reason, most frequent first."""
    return dict(Counter(reject["reason"] for reject in rejects).most_common())


def told(rejects: Sequence[Mapping[str, str]]) -> str:
    """Say in words what was rejected, with an example of each reason: a wrong folder shows in the name of one file."""
    first = {reject["reason"]: reject for reject in reversed(rejects)}
    return "; ".join(
        f"{count} {reason}, as {first[reason]['utt_id']!r}: {first[reason]['detail'] or 'no more is known'}"
        for reason, count in by_reason(rejects).items()
    )


def rejects_by_group(rejects: Sequence[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """Count rejected utterances by reason and group: what is missing may be missing from one group."""
    cells: dict[str, Counter[str]] = {}
    for reject in rejects:
        cells.setdefault(reject["reason"], Counter())[reject["group"]] += 1
    return {reason: dict(cells[reason].most_common()) for reason in by_reason(rejects)}


def other_characters(transcripts: Iterable[str]) -> dict[str, int]:
    """Count, by character, the normalised transcripts that hold characters other than A to Z, ' and space."""
    found = Counter(character for text in transcripts for character in set(text) - _ENGLISH)
    return dict(sorted(found.items()))
