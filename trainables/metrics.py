"""Word and character errors: counts per utterance, added up before dividing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jiwer


def count_errors(reference: str, hypothesis: str) -> dict[str, int]:
    """Count word errors (substitutions, deletions, insertions, hits) and character errors, by jiwer's alignment.

    An empty hypothesis deletes every word; an empty reference makes every word of the hypothesis an insertion.

    Returns:
        substitutions, deletions, insertions, hits (of words), char_errors, chars (of the reference).
    """
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return {
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "hits": words.hits,
        "char_errors": characters.substitutions + characters.deletions + characters.insertions,
        "chars": characters.hits + characters.substitutions + characters.deletions,
    }


def summarise(rows: Sequence[Mapping[str, Any]], group_columns: Sequence[str]) -> dict[str, float | None]:
    """Score utterances, all and by group: sum of errors / sum of reference words (a ratio of sums).

    Args:
        rows: utterances with the counts of `count_errors`, `loss` (nats), `labels` and the group columns.
        group_columns: for each value v of each of these columns: `wer/v`, `cer/v`, `nll_per_label/v`.

    Returns:
        wer and cer as fractions (they may exceed 1), nll_per_label in nats; None where there is nothing to divide by.
    """
    summary = _scores(rows, "")
    for column in group_columns:
        for value in sorted({row[column] for row in rows}):
            summary |= _scores([row for row in rows if row[column] == value], f"/{value}")
    return summary


def _scores(rows: Sequence[Mapping[str, Any]], suffix: str) -> dict[str, float | None]:
    word_errors = sum(row["substitutions"] + row["deletions"] + row["insertions"] for row in rows)
    words = sum(row["hits"] + row["substitutions"] + row["deletions"] for row in rows)
    return {
        f"wer{suffix}": _ratio(word_errors, words),
        f"cer{suffix}": _ratio(sum(row["char_errors"] for row in rows), sum(row["chars"] for row in rows)),
        f"nll_per_label{suffix}": _ratio(_total(row["loss"] for row in rows), sum(row["labels"] for row in rows)),
    }


def _total(values: Iterable[float]) -> float:
    return float(sum(values))


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
