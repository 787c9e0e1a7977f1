"""Read losses of utterances that were measured elsewhere: one row per utterance, whatever its columns are called.

Pure but for reading the file. N utterances.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from launcher.config_values import ConfigurationError
from launcher.stats import NO_GROUP

MOST_GROUPS = 50  # 1,225 pairs; beyond that a column of ids was taken for a column of classes

_NAMES = {"loss": ("loss",), "group": ("group", "task"), "length": ("length", "labels"),
          "speaker": ("speaker", "speaker_id")}  # fmt: skip
_KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
_LEAST_LOSS = -1e-3  # a likelihood of 1 in float32 may come out a little above it


@dataclass(frozen=True)
class Request:
    """What to read of each file.

    Attributes:
        columns: role (loss, group, length, speaker) -> column; a role that is not named is found by usual names.
        rows: as a Python slice, for example 0:412; empty means all.
        names: class as it stands in the file -> name to show.
    """

    columns: Mapping[str, str]
    rows: str = ""
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Losses:
    """Losses of utterances.

    Attributes:
        source: where they are from.
        frame: one row per utterance: group (ordered categories), loss, length (>= 0) and, where it is known, speaker.
        columns: role -> column of the source.
        per_label: whether the losses were divided by their length already.
        notes: what was left out, in plain words.
    """

    source: str
    frame: pd.DataFrame
    columns: Mapping[str, str]
    per_label: bool = False
    notes: tuple[str, ...] = ()

    @property
    def nats_N(self) -> np.ndarray:
        """Loss of each whole utterance in nats, where the source gives nats."""
        loss_N = self.frame["loss"].to_numpy(dtype=float)
        return loss_N * self.labels_N if self.per_label else loss_N

    @property
    def labels_N(self) -> np.ndarray:
        """Labels of each utterance, at least 1, as the reductions divide."""
        return np.maximum(self.frame["length"].to_numpy(dtype=float), 1.0)


def read(path: Path, request: Request, *, per_label: bool = False) -> Losses:
    """Read one file of losses.

    Utterances without a finite loss are left out and counted in the notes.

    Raises:
        ConfigurationError: the file, a column, a value or a selection cannot be used; says what can be.
    """
    table = _table(path)
    columns = _columns(path, table, request.columns)
    table = table.iloc[_rows(request.rows)]
    if table.empty:
        raise ConfigurationError(f"{path}: rows {request.rows or 'all'!r} hold no utterance; give others to --rows")
    _refuse_repeats(path, table)
    group, order = _groups(path, table[columns["group"]], columns["group"], request.names)
    frame = pd.DataFrame(
        {
            "group": pd.Categorical(group, categories=order, ordered=True),
            "loss": _numbers(path, table[columns["loss"]], "loss", least=_LEAST_LOSS),
            "length": _numbers(path, table[columns["length"]], "length", least=0.0),
        }
    )
    if "speaker" in columns:
        frame["speaker"] = [_class(value) for value in table[columns["speaker"]]]
    frame, notes = _usable(path, frame)
    return Losses(str(path), frame, columns, per_label, notes)


def _table(path: Path) -> pd.DataFrame:
    """Read the file with the values as they stand in it.

    Raises:
        ConfigurationError: there is no such file, it is no table, or two columns have one name.
    """
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise ConfigurationError(f"{str(path)!r}: losses are read from {', '.join(_KINDS)}; give such a file")
    try:
        table = _parsed(path, kind)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{str(path)!r} does not exist; give a file of losses") from error
    except ConfigurationError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConfigurationError(f"{str(path)!r} cannot be read as {kind} ({error}); give a table in UTF-8") from error
    table.columns = table.columns.map(str)
    _refuse_same_names(path, list(table.columns))
    return table


def _parsed(path: Path, kind: str) -> pd.DataFrame:
    if kind == ".parquet":
        return pd.read_parquet(path)
    if kind == ".jsonl":
        _refuse_other_than_objects(path)
        # Types are left alone: pandas would turn ids into numbers.
        return pd.read_json(path, lines=True, dtype=False, convert_axes=False, encoding="utf-8-sig")
    separator = "\t" if kind == ".tsv" else ","
    _refuse_ragged_rows(path, separator)
    return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")


def _refuse_ragged_rows(path: Path, separator: str) -> None:
    """Refuse rows that do not have one field per column: pandas would shift or fill them without a word."""
    header: list[str] | None = None
    for line, row in _rows_of_text(path, separator):
        if header is None:
            header = row
            _refuse_same_names(path, header)
        if len(row) != len(header):
            raise ConfigurationError(
                f"{path}: line {line} has {len(row)} fields and the header has {len(header)}; give every row one field per "
                "column (a field that holds the separator needs quotes)"
            )


def _rows_of_text(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Give each row with the line that it begins on, counted from 1; blank lines are none."""
    line = 1
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, delimiter=separator, strict=True)
        try:
            for row in rows:
                if row and not (len(row) == 1 and row[0].isspace()):
                    yield line, row
                line = rows.line_num + 1
        except csv.Error as error:
            raise ConfigurationError(
                f"{path}: the row that begins on line {line} cannot be read ({error}); correct its quotes"
            ) from error


def _refuse_other_than_objects(path: Path) -> None:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.lstrip().startswith("{"):
                raise ConfigurationError(
                    f"{path}: line {number} is {line.strip()[:40]!r}; every line of a .jsonl must be one object with the "
                    'names of its columns, as {"group": "word", "loss": 1.5, "length": 4}'
                )


def _refuse_same_names(path: Path, names: Sequence[str]) -> None:
    """Refuse columns of one name; those without a name cannot be asked for, so they may be several."""
    same = sorted({name for name in names if name and names.count(name) > 1})
    if same:
        raise ConfigurationError(f"{path}: more than one column is called {same}; give every column its own name")


def _columns(path: Path, table: pd.DataFrame, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each role; the speaker's only where there is one."""
    present, problems, found = [str(name) for name in table.columns], [], {}
    for role, usual in _NAMES.items():
        given = wanted.get(role)
        matches = [given] if given is not None else [name for name in present if name.lower() in usual]
        if given is not None and given not in present:
            problems.append(f"--{role} {given!r}: there is no such column")
        elif len(matches) > 1:
            problems.append(f"columns {matches} could all be the {role}: say which with --{role}")
        elif matches:
            found[role] = matches[0]
        elif role != "speaker":
            problems.append(f"no column is called {' or '.join(usual)}: name the {role} with --{role}")
    if problems:
        raise ConfigurationError(f"{path}: {'; '.join(problems)}. The columns are {present}")
    return found


def _rows(text: str) -> slice:
    """Read a selection as Python does."""
    parts = text.split(":") if text else [""]
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
        if text and (not 2 <= len(parts) <= 3 or numbers[2:] == [0]):
            raise ValueError(text)
    except ValueError as error:
        raise ConfigurationError(f"--rows {text!r}: write A:B as a Python slice, for example 0:412 or -68:") from error
    return slice(*numbers)


def _refuse_repeats(path: Path, table: pd.DataFrame) -> None:
    """Refuse a table that counts utterances several times, such as all trials of a study."""
    if "utt_id" not in table.columns:
        return
    counts = table["utt_id"].value_counts()
    if len(counts) and counts.iloc[0] > 1:
        raise ConfigurationError(
            f"{path}: utt_id {counts.index[0]!r} stands in {counts.iloc[0]} rows, and every utterance may count once "
            "only; keep one trial and one phase in the file (the report of a study has all of them)"
        )


def _groups(path: Path, values: pd.Series, column: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the shown class of each row, and the classes in order."""
    classes = [_class(value) for value in values]
    order = sorted(set(classes), key=_natural)
    shown = _names(path, names, order)
    if len(order) > MOST_GROUPS:
        raise ConfigurationError(
            f"{path}: column {column!r} has {len(order)} classes; at most {MOST_GROUPS} can be compared; "
            "name a coarser column with --group"
        )
    return [shown[name] for name in classes], list(dict.fromkeys(shown[name] for name in order))


def _names(path: Path, names: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    shown = {name: name for name in classes}
    given: set[str] = set()
    for text in names:
        key, equals, name = (part.strip() for part in text.partition("="))
        if not (key and equals and name) or key in given:
            again = " (named twice)" if key in given else ""
            raise ConfigurationError(f"--name {text!r}{again}: write CLASS=NAME once per class, as 0=dysarthric")
        if key not in shown:
            raise ConfigurationError(f"--name {text!r}: {path} has no class {key!r}; the classes are {list(classes)}")
        given.add(key)
        shown[key] = name
    return shown


def _class(value: Any) -> str:
    """Write a class; 0 and 0.0 are one, since a missing value elsewhere turns whole numbers into floats."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return NO_GROUP
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    return text or NO_GROUP


def _natural(name: str) -> tuple[int, float, str]:
    """Sort numbers by value, before words."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _numbers(path: Path, values: pd.Series, role: str, *, least: float) -> np.ndarray:
    """Return a column as floats, NaN where it is empty."""
    text = values.astype(str).str.strip()
    text = text.where(~text.str.lower().isin(["", "nan", "none", "null", "<na>"]), "nan")
    numbers_N = pd.to_numeric(text, errors="coerce").to_numpy(dtype=float)
    wrong_N = (np.isnan(numbers_N) & (text != "nan").to_numpy()) | (numbers_N < least)
    if wrong_N.any():
        place = int(np.flatnonzero(wrong_N)[0])
        allowed = "numbers of 0 or more" if least <= 0 else f"numbers of at least {least:g}"
        raise ConfigurationError(
            f"{path}: column {values.name!r} holds {values.iloc[place]!r} (row {values.index[place]}, counted from 0); "
            f"the {role} must be {allowed}; correct it or name another column with --{role}"
        )
    return numbers_N


def _usable(path: Path, frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave out what has no finite loss or length, and say so."""
    kept = frame[np.isfinite(frame["loss"]) & np.isfinite(frame["length"])].reset_index(drop=True)
    if kept.empty:
        raise ConfigurationError(f"{path}: none of the {len(frame)} rows has a finite loss and length; give others")
    kept["group"] = kept["group"].cat.remove_unused_categories()
    lost = len(frame) - len(kept)
    return kept, (f"{lost} of {len(frame)} utterances have no finite loss or length and were left out.",) * (lost > 0)
