"""The same audit by one, two and three workers over gloo."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from processes import work_together
from torch import distributed
from worlds import World

from trainables.audit import Auditor
from trainables.shares import presets

pytestmark = pytest.mark.slow
TABLES = ("audit", "shares", "cosines", "exact")


def work(rank: int, folder: str) -> None:
    """Audit as one of three workers, then, without the last, as one of two, and the first alone; the first writes."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    world = World(folder_of(folder, rank))
    for workers in (3, 2, 1):
        if rank < workers:
            store = f"file://{folder}/meeting-{workers}"
            distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=workers)
            audit(world, Path(folder) / str(workers))
            distributed.destroy_process_group()


def folder_of(folder: str, rank: int) -> Path:
    """Each worker makes its own recordings: none reads a file that another is writing."""
    path = Path(folder) / f"worker-{rank}"
    path.mkdir()
    return path


def audit(world: World, folder: Path) -> None:
    auditor = Auditor(
        world.train, tuple(range(11)), world.features, world.vocabulary.blank, ("group", "speaker"), presets(), 60.0, 3,
        exact=5,
    )  # fmt: skip
    auditor.write(world.model(), torch.device("cpu"), contextlib.nullcontext, folder)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("world")
    work_together(work, folder, workers=3)
    return {
        (workers, name): pyarrow.parquet.read_table(folder / str(workers) / f"{name}.parquet").to_pylist()
        for workers in (1, 2, 3)
        for name in TABLES
    }


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("name", TABLES)
def test_an_audit_does_not_depend_on_the_number_of_workers(tables, workers: int, name: str) -> None:
    one, other = tables[1, name], tables[workers, name]
    assert len(one) == len(other) > 0
    for row, same in zip(one, other):
        numbers = {key for key, value in row.items() if isinstance(value, float)}
        assert {key: row[key] for key in row.keys() - numbers} == {key: same[key] for key in row.keys() - numbers}
        assert {key: same[key] for key in numbers} == pytest.approx(
            {key: row[key] for key in numbers}, rel=1e-6, abs=1e-9
        )
