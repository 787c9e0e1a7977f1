"""What a page shows: tables of cells, and figures; and the few tables that need nothing but what was recorded.

Pure. A cell holds text and the value to sort by; escaping is left to the template.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from launcher.answer import NOT_MEASURED

NUM_REJECTS = 200  # the rest is in rejects.parquet; a page of 100,000 rows cannot be read
MOST_ROWS = 500  # of a table on a page; beyond that it is slow to open, and nobody reads it there
LARGEST_INLINE = 200_000  # bytes of CSV; a larger one lies in a file beside the page
BESIDE = "report_data"


@dataclass(frozen=True)
class Cell:
    """Text to show, the value to sort by (None sorts last), and whether it is a number; a clip is sound to play."""

    text: str
    value: float | str | None = None
    numeric: bool = False
    clip: str | None = None


@dataclass(frozen=True)
class Numbers:
    """What a link to the numbers leads to: a file of that name inside the page or, when it is large, beside it."""

    file: str
    csv: str

    @property
    def beside(self) -> bool:
        """Whether it lies in a file beside the page."""
        return len(self.csv.encode()) > LARGEST_INLINE

    @property
    def link(self) -> str:
        """Where the link leads."""
        if self.beside:
            return f"{BESIDE}/{self.file}"
        return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(self.csv.encode()).decode()}"


@dataclass(frozen=True)
class Table:
    """A captioned table; `empty` says why there are no rows, `exported` asks for a link to its numbers."""

    id: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = "There is nothing to list."
    exported: bool = False

    @property
    def shown(self) -> tuple[tuple[Cell, ...], ...]:
        """The rows that stand on the page."""
        return self.rows[:MOST_ROWS]

    @property
    def linked(self) -> bool:
        """Whether the page has a link to all rows."""
        return self.exported or len(self.rows) > MOST_ROWS

    @cached_property
    def numbers(self) -> Numbers:
        """All rows, numbers in full, as a file."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows([_exported(cell) for cell in row] for row in self.rows)
        return Numbers(f"{self.id}.csv", file.getvalue())


@dataclass(frozen=True)
class Figure:
    """A plotly figure with its caption and the numbers behind it.

    Attributes:
        id: of its element.
        caption: what it shows.
        spec: traces and layout, as JSON.
        numbers: those behind it.
        height: in CSS pixels: its place is kept free until it is drawn.
        entries: how many lines its legend has at most.
    """

    id: str
    caption: str
    spec: str
    numbers: Numbers
    height: int
    entries: int


def _exported(cell: Cell) -> str | float:
    if cell.numeric:
        return "" if cell.value is None else cell.value
    return "" if cell.text == NOT_MEASURED else cell.text


def number(value: Any, pattern: str = "{:.3g}", factor: float = 1.0) -> Cell:
    """Return a cell for a number; missing and infinite values show as a dash and sort last."""
    shown = float(value) * factor if value is not None and pd.notna(value) else np.nan
    if not np.isfinite(shown):
        return Cell(NOT_MEASURED, None, True)
    return Cell(pattern.format(shown), shown, True)


def rate(value: Any) -> Cell:
    """Return a cell for a fraction, shown as per cent with one decimal."""
    return number(value, "{:.1f} %", 100.0)


def text(value: Any) -> Cell:
    """Return a cell for text; what is missing shows as a dash."""
    if value is None or (not isinstance(value, (list, dict)) and pd.isna(value)):
        return Cell(NOT_MEASURED)
    return Cell(str(value), str(value))


def whole(value: Any) -> Cell:
    """Return a cell for a count."""
    return number(value, "{:,.0f}")


def probability(value: Any) -> Cell:
    """Return a cell for a p-value."""
    cell = number(value, "{:.3f}")
    return Cell("< 0.001", cell.value, True) if cell.value is not None and float(cell.value) < 0.001 else cell


def rejects_table(rejects: pd.DataFrame) -> Table:
    """List what could not be used, with the reason."""
    names = [name for name in ("utt_id", "reason", "detail", "split", "group") if name in rejects.columns]
    shown = rejects.head(NUM_REJECTS)
    rows = tuple(tuple(text(value) for value in row) for row in shown[names].itertuples(index=False))
    more = f"; the first {len(rows)}, all are in rejects.parquet" if len(rejects) > len(rows) else ""
    head = tuple("utterance" if name == "utt_id" else name for name in names)
    return Table("rejects", f"{len(rejects):,} utterances could not be used{more}", head, rows,
                 "Every utterance of the data could be used.")  # fmt: skip


def slug(*parts: str) -> str:
    """Return a name that is safe as an element id and as a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(parts))


def counts_table(data: dict[str, Any]) -> Table:
    """List how many utterances and seconds each split and group has."""
    counts: Sequence[dict[str, Any]] = data.get("counts") or []
    names = list(dict.fromkeys(name for row in counts for name in row))
    rows = tuple(tuple(_count_cell(name, row.get(name)) for name in names) for row in counts)
    return Table("counts", "Utterances by split and group", tuple(names), rows, "Counts were not recorded.")


def _count_cell(name: str, value: Any) -> Cell:
    if name in ("utterances", "speakers"):
        return whole(value)
    return number(value, "{:,.1f}") if name == "seconds" else text(value)


def figure(id: str, caption: str, drawn: go.Figure, data: pd.DataFrame, file: str) -> Figure:
    """Pack a figure for the template: its specification as JSON and its numbers as CSV."""
    spec = str(drawn.to_json()).replace("<", "\\u003c")  # so that no text can end the script element
    made = drawn.to_plotly_json()
    has_legend = made["layout"].get("showlegend") is not False
    entries = sum(trace.get("showlegend") is not False for trace in made["data"]) if has_legend else 0
    return Figure(id, caption, spec, Numbers(file, data.to_csv(index=False)), made["layout"]["height"], entries)
