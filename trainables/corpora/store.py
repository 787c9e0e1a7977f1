"""The store: a corpus decoded once into Arrow, memory-mapped by every trial on a node.

A store is a folder: `utterances.arrow` (16 kHz mono int16 audio and the columns of the manifest), `rejects.parquet`
(what cannot be used, with the reason) and `store.json` (fingerprint, vocabulary, counts). It is written under a
temporary name and renamed, so a store that exists is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from trainables.corpora.audio import SAMPLE_RATE_HZ
from trainables.errors import DataError
from trainables.vocabulary import Vocabulary

TABLE, REJECTS, DESCRIPTION = "utterances.arrow", "rejects.parquet", "store.json"
_LITTLE_ENDIAN_INT16 = np.dtype("<i2")


@dataclass(frozen=True)
class Store:
    """A prepared corpus.

    Attributes:
        path: its folder.
        description: `store.json`: fingerprint, source, vocabulary, text_normalisation, counts, rejects, filled ...
    """

    path: Path
    description: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Open a prepared store.

        Raises:
            DataError: the folder is no store.
        """
        path = Path(path)
        try:
            description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a prepared store ({error})") from error
        return cls(path, description)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a trial can see of the data."""
        return self.description["fingerprint"]

    @property
    def vocabulary(self) -> Vocabulary:
        """Characters of the training transcripts, as labels of a model that starts from scratch."""
        return Vocabulary(tuple(self.description["vocabulary"]))

    @cached_property
    def table(self) -> pa.Table:
        """All utterances, memory-mapped: columns of the manifest, `transcript` (normalised), `audio`, `samples`."""
        with pa.memory_map(str(self.path / TABLE)) as source:
            return pa.ipc.open_file(source).read_all()

    def columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Read columns as Python lists.

        Raises:
            DataError: the store has no such column; the message lists those it has.
        """
        if missing := [name for name in names if name not in self.table.column_names]:
            has = ", ".join(name for name in self.table.column_names if name != "audio")
            raise DataError(f"the data has no column {', '.join(missing)}; it has: {has}")
        return {name: self.table.column(name).to_pylist() for name in names}

    def samples(self, row: int) -> np.ndarray:
        """Return the audio of a row as samples_S, int16, without copying."""
        return np.frombuffer(self.table.column("audio")[row].as_buffer(), dtype=_LITTLE_ENDIAN_INT16)

    def rejects(self) -> list[dict[str, Any]]:
        """Return what was rejected: utt_id, reason, detail, split, group, speaker."""
        return pyarrow.parquet.read_table(self.path / REJECTS).to_pylist()


def write(
    path: Path,
    batches: Callable[[], Any],
    rejects: Callable[[], Sequence[Mapping[str, str]]],
    describe: Callable[[list[dict[str, Any]]], dict[str, Any]],
) -> Store:
    """Write a store whole or not at all.

    Args:
        path: its folder, which must not exist.
        batches: yields lists of rows: text columns, `audio` (int16 bytes) and `samples`.
        rejects: called after the last batch; the rejected rows.
        describe: called with all rows, without their audio; returns the content of `store.json`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        seen: list[dict[str, Any]] = []
        writer: pa.RecordBatchFileWriter | None = None
        for rows in batches():
            if not rows:
                continue
            batch = pa.RecordBatch.from_pylist(rows, schema=_schema(rows[0]))
            writer = writer or pa.ipc.new_file(str(temporary / TABLE), batch.schema)
            writer.write_batch(batch)
            seen += [{key: value for key, value in row.items() if key != "audio"} for row in rows]
        if writer is not None:
            writer.close()
        pyarrow.parquet.write_table(_rejects_table(rejects()), temporary / REJECTS)
        description = describe(seen)
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=1, ensure_ascii=False), encoding="utf-8")
        for file in temporary.iterdir():
            _flush_to_disk(file)
        _rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Store.open(path)


def fingerprint(rows: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]) -> str:
    """Hash the utterances and how they were prepared; the order of the rows does not count.

    The audio enters by the hash of the file it came from (`audio_sha256`), so that the fingerprint is the same on
    every machine, whatever version of the decoder it has.
    """
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
            "speakers": len({row["speaker"] for row in cell}),
            "seconds": round(sum(row["samples"] for row in cell) / SAMPLE_RATE_HZ, 3),
        }
        for (split, group), cell in sorted(cells.items())
    ]


def by_reason(rejects: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """Count rejected utterances by reason, most frequent first."""
    return dict(Counter(reject["reason"] for reject in rejects).most_common())


def rejects_by_group(rejects: Sequence[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """Count rejected utterances by reason and group: what is missing may be missing from one group."""
    return {
        reason: dict(Counter(reject["group"] for reject in rejects if reject["reason"] == reason).most_common())
        for reason in by_reason(rejects)
    }


def _schema(row: Mapping[str, Any]) -> pa.Schema:
    special = {"audio": pa.large_binary(), "samples": pa.int64(), "duration_seconds": pa.float64()}
    return pa.schema([(name, special.get(name, pa.string())) for name in row])


def _rejects_table(rejects: Sequence[Mapping[str, str]]) -> pa.Table:
    names = ("utt_id", "reason", "detail", "split", "group", "speaker")
    return pa.Table.from_pylist([dict(row) for row in rejects], schema=pa.schema([(n, pa.string()) for n in names]))


def _flush_to_disk(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _rename(temporary: Path, path: Path) -> None:
    """Put the finished store in place; when another process was first with the same content, keep that one."""
    try:
        temporary.rename(path)
    except OSError:
        if not (path / DESCRIPTION).is_file():
            raise
