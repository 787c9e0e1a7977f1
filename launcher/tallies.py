"""Errors and words of every utterance in every trial, laid out so that trials can be compared.

Pure. A study of millions of scored utterances is read part by part into arrays of a few bytes per score.
T trials, U utterances, N rows of a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from launcher.speakers import is_nameless, told_apart
from launcher.stats import first_runs, named, with_columns

COUNTS = ("errors", "words", "char_errors", "chars")
COLUMNS = ("trial_id", "phase", "utt_id", "speaker", "corpus", "substitutions", "deletions", "insertions", "hits",
           "char_errors", "chars")  # fmt: skip
"""What is read of an utterance table, beside the columns to group by."""

GIVEN_SPEAKER = "speaker (as given)"
_CORPUS = "corpus of the speaker"
_SPEAKER_BITS = 24  # of the number that stands for an utterance of a speaker


@dataclass(frozen=True)
class Tally:
    """The scores of finished trials after training; runs that repeat another one are left out.

    Attributes:
        trials: T rows: trial_id, variant, seed, pair (what is paired between variants: the seed, and which trial of
            it where an axis is hidden).
        utterances: U rows: utt_id, `GIVEN_SPEAKER` (as the table names the speaker), speaker (with its corpus before it where
            two corpora have one of that name) and the columns asked for, as categories; what is missing is "(not given)".
        errors: word errors, [T, U]; NaN where the trial did not score the utterance. So are the others.
        words: reference words.
        char_errors: character errors.
        chars: reference characters.
    """

    trials: pd.DataFrame
    utterances: pd.DataFrame
    errors: np.ndarray
    words: np.ndarray
    char_errors: np.ndarray
    chars: np.ndarray

    def nameless(self) -> np.ndarray:
        """Tell of each utterance whether its speaker is not known, [U]."""
        names = self.utterances["speaker"].cat.categories
        return np.array([is_nameless(str(name)) for name in names] + [False])[
            self.utterances["speaker"].cat.codes.to_numpy()
        ]

    def classes(self, column: str) -> pd.Series:
        """Return the class of each utterance, as categories.

        Raises:
            ValueError: the column was not kept.
        """
        if column not in self.utterances.columns:
            raise ValueError(
                f"cannot group by {column!r}: of the utterances only {list(self.utterances.columns)} are known; "
                "name a column of the utterance table"
            )
        return self.utterances[column].astype("category")


def tally(
    results: pd.DataFrame, utterances: pd.DataFrame | Iterable[pd.DataFrame], columns: Sequence[str] = ()
) -> Tally:
    """Collect the scores of the finished trials.

    An utterance is told by utt_id and speaker. One that stands twice in a trial counts once, with the sum of its counts.

    Args:
        results: one row per requested trial.
        utterances: the utterance table, or parts of it in any order; rows before training are skipped.
        columns: columns of it to group by; one that no part has is left out.
    """
    trials = _finished(results)
    parts = [utterances] if isinstance(utterances, pd.DataFrame) else utterances
    collector = _Collector(pd.Index(trials["trial_id"]), tuple(dict.fromkeys(columns)))
    for part in parts:
        collector.add(part)
    return Tally(trials, collector.utterances(), *collector.arrays(len(trials)))


def _finished(results: pd.DataFrame) -> pd.DataFrame:
    trials = with_columns(first_runs(results), ["trial_id", "variant", "status", "seed"])
    trials = trials[trials["status"] == "done"].reset_index(drop=True)
    place = trials.groupby(["variant", "seed"], dropna=False).cumcount()
    pair = trials["seed"].astype(str) + "/" + place.astype(str)
    return trials[["trial_id", "variant", "seed"]].assign(pair=pair)


@dataclass
class _Codes:
    """Numbers for values, from 0 in the order they are first seen."""

    known: pd.Index | None = None

    def of(self, values: pd.Series | np.ndarray) -> np.ndarray:
        """Return the number of each value; a value seen for the first time gets the next one."""
        code_N, distinct = pd.factorize(values)
        distinct = pd.Index(distinct)
        if self.known is None:
            self.known = distinct
            return code_N
        if distinct.equals(self.known):  # every trial scores the same utterances in the same order
            return code_N
        place = self.known.get_indexer(distinct)
        new = place < 0
        place[new] = len(self.known) + np.arange(new.sum())
        if new.any():
            self.known = self.known.append(distinct[new])
        return place[code_N]


@dataclass
class _Collector:
    """Takes the parts of an utterance table one by one."""

    trial_ids: pd.Index
    columns: tuple[str, ...]
    names: _Codes = field(default_factory=_Codes)
    speakers: _Codes = field(default_factory=_Codes)
    cells: _Codes = field(default_factory=_Codes)
    frames: list[pd.DataFrame] = field(default_factory=list)
    places: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    counts: list[tuple[np.ndarray, ...]] = field(default_factory=list)

    def add(self, part: pd.DataFrame) -> None:
        """Take the rows after training of the trials that are wanted."""
        part = with_columns(part, COLUMNS)
        trial_N = (
            self.trial_ids.get_indexer(pd.Index(part["trial_id"])) if len(self.trial_ids) else np.full(len(part), -1)
        )
        wanted = (part["phase"] == "final").to_numpy(dtype=bool) & (trial_N >= 0) & part["utt_id"].notna().to_numpy()
        if not wanted.any():
            return
        rows, trial_N = part[wanted], trial_N[wanted]
        speaker = named(rows["speaker"])
        known = 0 if self.cells.known is None else len(self.cells.known)
        cell_N = self.cells.of(
            (self.names.of(rows["utt_id"]).astype(np.int64) << _SPEAKER_BITS) | self.speakers.of(speaker)
        )
        fresh = np.flatnonzero(cell_N >= known)
        fresh = fresh[np.unique(cell_N[fresh], return_index=True)[1]]
        self._describe(rows.iloc[fresh], speaker.iloc[fresh])
        self.places.append((trial_N.astype(np.int32), cell_N.astype(np.int32)))
        self.counts.append(_counts(rows))

    def _describe(self, rows: pd.DataFrame, speaker: pd.Series) -> None:
        kept = {name: named(rows[name]) for name in self.columns if name in rows.columns and name != "speaker"}
        own = {"utt_id": rows["utt_id"], GIVEN_SPEAKER: speaker, _CORPUS: named(rows["corpus"])}
        self.frames.append(pd.DataFrame({**own, **kept}))

    def utterances(self) -> pd.DataFrame:
        """Return what is known of each utterance, by its number."""
        if not self.frames:
            none = pd.Categorical([])
            return pd.DataFrame({"utt_id": pd.Series(dtype=str), GIVEN_SPEAKER: none, "speaker": none})
        table = pd.concat(self.frames, ignore_index=True)
        table.insert(2, "speaker", told_apart(table[GIVEN_SPEAKER], table.pop(_CORPUS)))
        texts = {name: named(table[name]).astype("category") for name in table.columns if name != "utt_id"}
        return table.assign(**texts)

    def arrays(self, num_trials: int) -> list[np.ndarray]:
        """Return the counts, [T, U] each, in the order of `COUNTS`."""
        num_utterances = sum(map(len, self.frames))
        shape = (num_trials, num_utterances)
        if not self.places:
            return [np.full(shape, np.nan, dtype=np.float32) for _ in COUNTS]
        place = np.concatenate([trial_N.astype(np.int64) * num_utterances + cell_N for trial_N, cell_N in self.places])
        unscored = np.bincount(place, minlength=num_trials * num_utterances) == 0
        found = []
        for kind in range(len(COUNTS)):
            values = np.concatenate([counts[kind] for counts in self.counts])
            sums = np.bincount(place, values, minlength=num_trials * num_utterances).astype(np.float32)
            sums[unscored] = np.nan
            found.append(sums.reshape(shape))
        return found


def _counts(rows: pd.DataFrame) -> tuple[np.ndarray, ...]:
    """Return errors and words, of words and of characters, [N] each; counts below 2^24 are exact in float32."""
    substitutions, deletions, insertions, hits, char_errors, chars = (
        pd.to_numeric(rows[name]).to_numpy(dtype=np.float32, na_value=np.nan)
        for name in ("substitutions", "deletions", "insertions", "hits", "char_errors", "chars")
    )
    common = substitutions + deletions
    return common + insertions, common + hits, char_errors, chars
