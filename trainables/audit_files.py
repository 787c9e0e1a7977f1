"""The files of one audit: written as they are measured, there only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

_TEXT = ("utt_id", "corpus", "group", "speaker", "split")


@dataclass(frozen=True)
class Audit:
    """What an audit found; the same on every worker.

    Attributes:
        shares: rows of shares.parquet.
        cosines: rows of cosines.parquet.
        exact: rows of exact.parquet; none unless whole gradients were asked for.
        summary: weights (their digest), utterances, excluded (loss not finite), split, reductions, left_out, seconds.
    """

    shares: list[dict[str, Any]]
    cosines: list[dict[str, Any]]
    exact: list[dict[str, Any]]
    summary: dict[str, Any]


def text_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that an audited utterance carries along: the usual ones and those asked for."""
    return tuple(dict.fromkeys((*_TEXT, *columns)))


def audit_schema(columns: Sequence[str]) -> pa.Schema:
    """Columns of audit.parquet: one row per audited utterance.

    loss in nats, infinite where it has no alignment; feasible: whether it counts, its loss being finite; grad_norm: norm
    of the gradient of its loss at the output layer; logit_grad_norm: at the logits. Both null where it does not count.
    """
    return pa.schema(
        [
            *((name, pa.string()) for name in text_columns(columns)),
            ("duration_seconds", pa.float64()),
            ("loss", pa.float64()),
            ("labels", pa.int64()),
            ("frames", pa.int64()),
            ("feasible", pa.bool_()),
            ("grad_norm", pa.float64()),
            ("logit_grad_norm", pa.float64()),
        ]
    )


class RowFile:
    """A Parquet file that grows row by row in a `with` block, and has its name only when the block ended well.

    Args:
        path: its name.
        schema: its columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.part")

    def __enter__(self) -> RowFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pyarrow.parquet.ParquetWriter(self._temporary, self.schema, compression="zstd")
        return self

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Write some rows; they are kept no longer."""
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self.schema))

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if failure is not None:
            self._temporary.unlink()
            return
        with self._temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(self._temporary, self.path)
