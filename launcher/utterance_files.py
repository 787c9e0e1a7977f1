"""The utterance table of a study, read trial by trial: ten million rows need the memory of one trial's.

A report looks at it through `parts`, whether it lies in files or is a data frame.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

from launcher import reading, results

_OTHERS = ("history", "shares", "exact", "audit")


@dataclass(frozen=True)
class UtteranceFiles:
    """An utterance table in files.

    Attributes:
        files: trial_id -> its Parquet file.
    """

    files: Mapping[str, Path]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every column that a file has."""
        return tuple(dict.fromkeys(name for schema in self._schemas.values() for name in schema))

    @cached_property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(pyarrow.parquet.read_metadata(file).num_rows for file in self.files.values())

    @cached_property
    def _schemas(self) -> dict[str, list[str]]:
        return {trial: reading.schema(file).names for trial, file in self.files.items()}

    def parts(
        self, columns: Sequence[str], trials: Collection[str] | None, phase: str | None
    ) -> Iterator[pd.DataFrame]:
        """See `parts`."""
        for trial, file in self.files.items():
            if trials is not None and trial not in trials:
                continue
            known = [name for name in columns if name in self._schemas[trial]]
            filters = [("phase", "==", phase)] if phase is not None and "phase" in self._schemas[trial] else None
            yield reading.table(file, columns=known, filters=filters).to_pandas()


@dataclass(frozen=True)
class Study:
    """A study as a report reads it: `launcher.results.Tables`, with the utterances left in their files."""

    study: dict[str, Any]
    results: pd.DataFrame
    utterances: UtteranceFiles
    history: pd.DataFrame
    shares: pd.DataFrame
    exact: pd.DataFrame
    audit: pd.DataFrame
    rejects: pd.DataFrame


def open_study(folder: str | Path) -> Study:
    """Read a study, finished or running, but for its utterances.

    Raises:
        ResultsError: the folder holds no study.json.
    """
    folder = Path(folder)
    tables = results.load(folder, _OTHERS)
    ids = [trial["trial_id"] for trial in tables.study["trials"]]
    files = {trial: results.trial_folder(folder, trial) / "utterances.parquet" for trial in ids}
    found = UtteranceFiles({trial: file for trial, file in files.items() if file.is_file()})
    return Study(**{**vars(tables), "utterances": found})


def parts(
    table: pd.DataFrame | UtteranceFiles, columns: Sequence[str], trials: Collection[str] | None = None,
    phase: str | None = None,
) -> Iterator[pd.DataFrame]:  # fmt: skip
    """Yield an utterance table part by part; a data frame is one part.

    Args:
        table: the utterances.
        columns: those to read; a part lacks what its file has not.
        trials: only rows of these trials; None: of all.
        phase: only rows of this phase; None: of both.
    """
    if isinstance(table, UtteranceFiles):
        yield from table.parts(list(dict.fromkeys([*columns, "trial_id", "phase"])), trials, phase)
        return
    rows = table
    if trials is not None and "trial_id" in rows.columns:
        rows = rows[rows["trial_id"].isin(list(trials))]
    if phase is not None and "phase" in rows.columns:
        rows = rows[rows["phase"] == phase]
    kept = [name for name in dict.fromkeys([*columns, "trial_id", "phase"]) if name in rows.columns]
    yield rows[kept]


def whole(
    table: pd.DataFrame | UtteranceFiles, columns: Sequence[str], trials: Collection[str] | None = None,
    phase: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return what `parts` yields as one frame; for few trials."""
    found = [part for part in parts(table, columns, trials, phase) if len(part)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(columns))


def known_columns(table: pd.DataFrame | UtteranceFiles) -> tuple[str, ...]:
    """Return the columns of an utterance table."""
    return tuple(table.columns)


def is_empty(table: pd.DataFrame | UtteranceFiles) -> bool:
    """Tell whether no utterance was scored."""
    return table.rows == 0 if isinstance(table, UtteranceFiles) else table.empty
