"""What tests of the audit share: an audit of the small world, and a comparison of rows."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from worlds import World

from trainables.audit import Audit, Auditor
from trainables.shares import presets

CPU = torch.device("cpu")
WEIGHTED = "dataset_weighted(word=1.3, sentence=0.7)"
REDUCTIONS = presets([WEIGHTED])
POSITIONS = tuple(range(12))
CHUNK = 5
# float32 CTC takes exp of differences of some hundred nats: its gradient has no more than five digits.
DIGITS = 5e-5


def auditor(world: World, **changed: Any) -> Auditor:
    given = {
        "split": world.train, "positions": POSITIONS, "features": world.features, "blank": world.vocabulary.blank,
        "columns": ("group", "speaker"), "reductions": REDUCTIONS, "budget_seconds": 20.0, "max_utterances": 4,
        "chunk_size": CHUNK,
    }  # fmt: skip
    return Auditor(**{**given, **changed})


def measured(world: World, model: torch.nn.Module | None = None, **changed: Any) -> tuple[Audit, list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    audit = auditor(world, **changed).measure(
        model if model is not None else world.model(), CPU, contextlib.nullcontext, rows.extend
    )
    return audit, rows


def rows_of(audit: Audit, reduction: str, column: str) -> dict[str, dict[str, Any]]:
    return {row["class"]: row for row in audit.shares if (row["reduction"], row["column"]) == (reduction, column)}


def close(some: list[dict[str, Any]], others: list[dict[str, Any]], tolerance: float = DIGITS) -> bool:
    assert len(some) == len(others)
    return all(
        one[key]
        == (pytest.approx(other[key], rel=tolerance, abs=tolerance) if isinstance(one[key], float) else other[key])
        for one, other in zip(some, others)
        for key in one
    )
