"""The utterances that the best variant gets most wrong: what was said, what was understood, and how it sounds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from launcher.sections import Cell, Table, text
from launcher.stats import final_utterances, first_runs, with_columns
from launcher.utterance_files import UtteranceFiles, known_columns, parts

NUM_WORST = 20
_COUNTS = ("substitutions", "deletions", "insertions", "hits")


@dataclass(frozen=True)
class Clips:
    """Speech for a page.

    Attributes:
        sounds: place in the list of utterances -> data: URI.
        notes: what cannot be played, and why.
    """

    sounds: Mapping[int, str]
    notes: tuple[str, ...] = ()


Speech = Callable[[pd.DataFrame], Clips]
"""Finds the sound of utterances, given utt_id and split."""


def worst_rows(
    results: pd.DataFrame, utterances: pd.DataFrame | UtteranceFiles, best: str | None, groups: Iterable[str]
) -> pd.DataFrame:
    """Return the utterances with most word errors in a variant, each once, from its worst seed.

    Args:
        results: the trials.
        utterances: the utterance table.
        best: the variant; None gives no rows.
        groups: columns to keep, where the table has them.

    Returns:
        At most 20 rows: utt_id, split, speaker, the groups, reference, hypothesis, errors, words.
    """
    known = known_columns(utterances)
    kept = ["utt_id", "split", "speaker", *(name for name in groups if name in known), "reference", "hypothesis"]
    columns = list(dict.fromkeys(kept))
    trials = with_columns(first_runs(results), ["trial_id", "variant", "status", "seed"])
    trials = trials[(trials["variant"] == best) & (trials["status"] == "done")]
    found = pd.DataFrame(columns=[*columns, "errors", "words"])
    if best is None or trials.empty:
        return found
    for part in parts(utterances, [*columns, *_COUNTS], set(trials["trial_id"]), "final"):
        rows = final_utterances(part, trials, columns)
        rows = rows[rows["errors"] > 0]
        # The worst of a part hold the worst of all that come from it.
        found = _worst(pd.concat([found, _worst(rows)]) if len(found) else rows)
    return found


def _worst(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.assign(rate=rows["errors"] / rows["words"].where(rows["words"] > 0))
    rows = rows.sort_values(["errors", "rate", "utt_id"], ascending=[False, False, True], kind="stable")
    return rows.drop_duplicates(["utt_id", "split"]).head(NUM_WORST).reset_index(drop=True)


def worst_table(rows: pd.DataFrame, best: str | None, groups: Iterable[str], clips: Clips | None) -> Table:
    """List the worst utterances, with a player where there is sound."""
    groups = [name for name in groups if name in rows.columns and name != "speaker"]
    cells = tuple(
        (
            Cell(f"{row['errors']:.0f} of {row['words']:.0f}", row["errors"], True),
            *((_player(clips, place, row),) if clips is not None else ()),
            _said(row["reference"]),
            _said(row["hypothesis"]),
            *(text(row[name]) for name in ("speaker", *groups, "utt_id")),
        )
        for place, row in enumerate(rows.to_dict("records"))
    )
    head = (
        "errors of words", *(("sound",) if clips is not None else ()), "reference", "hypothesis", "speaker", *groups,
        "utterance",
    )  # fmt: skip
    caption = f"The {len(cells)} utterances with most word errors in {best}, each from its worst seed"
    return Table("worst", caption, head, cells, "No finished trial has an utterance with errors.")


def _player(clips: Clips, place: int, row: Mapping[Any, Any]) -> Cell:
    sound = clips.sounds.get(place)
    return Cell(f"Play {row['utt_id']}" if sound else "not here", clip=sound)


def _said(words: Any) -> Cell:
    """Return a cell for a transcript; an empty one is said to be empty rather than left blank."""
    return Cell("(nothing)" if pd.isna(words) or not str(words).strip() else str(words))
