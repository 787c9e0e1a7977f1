"""Files of one trial, written whole or not at all, with fixed columns."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

LENGTH = "length"
"""The column of the bins of labels that audits compare beside the group columns."""
_COUNTS = ("labels", "frames", "substitutions", "deletions", "insertions", "hits", "char_errors", "chars")
_UTTERANCE_TEXT = ("trial_id", "phase", "utt_id", "corpus", "group", "speaker", "split")
_HISTORY = (
    "epoch", "loss", "nll_per_label", "learning_rate", "grad_norm", "clip_fraction", "padding_fraction",
    "update_ratio", "zero_infinity_hits", "eval_wer", "eval_cer", "eval_nll_per_label",
)  # fmt: skip
_OPTIONAL = ("eval_wer/", "group_weight/", "class_", "reversal_")


def utterance_schema(group_columns: Sequence[str]) -> pa.Schema:
    """Columns of utterances.parquet: one row per phase and evaluated utterance.

    loss in nats, lengths in seconds; grad_norm: norm of the gradient of the loss at the output layer, null where the loss
    is not finite.
    """
    text = dict.fromkeys((*_UTTERANCE_TEXT, *group_columns, "reference", "hypothesis"))
    measured = ((name, pa.float64()) for name in ("duration_seconds", "loss", "grad_norm"))
    counts = ((name, pa.int64()) for name in _COUNTS)
    return pa.schema([*((name, pa.string()) for name in text), *measured, *counts])


def history_table(trial_id: str, log: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Turn the Trainer's log into history.parquet: one row per logged update, evaluations on the row of their update.

    Columns `eval_wer/<group>`, for reductions with memory `group_weight/<group>`, and for models with a classifier
    class_loss, class_accuracy and reversal_lambda follow the fixed ones.
    """
    rows: dict[int, dict[str, Any]] = {}
    for entry in log:
        if "update" in entry:
            rows.setdefault(int(entry["update"]), {}).update(entry)
    extra = sorted({name for row in rows.values() for name in row if name.startswith(_OPTIONAL)})
    columns = (*_HISTORY, *extra)
    schema = pa.schema([("trial_id", pa.string()), ("update", pa.int64()), *((name, pa.float64()) for name in columns)])
    return pa.Table.from_pylist(
        [
            {"trial_id": trial_id, "update": update} | {name: _number(rows[update].get(name)) for name in columns}
            for update in sorted(rows)
        ],
        schema=schema,
    )


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table whole or not at all."""
    with _whole(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file whole or not at all; numbers that are not finite become null."""
    text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
    with _whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    finally:  # half a file would take the room that the next one needs; what was raised tells more than an error here
        with suppress(OSError):
            temporary.unlink()


def flush_folder(folder: Path) -> None:
    """Put the names in a folder on the disk: without it a file that was renamed can be gone after a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
