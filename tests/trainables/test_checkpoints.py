"""Which checkpoint a trial goes on from: the newest whole one, whatever else lies beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainables import checkpoints


def write(folder: Path, update: int, *, sealed: bool = True) -> Path:
    path = folder / f"checkpoint-{update}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    return checkpoints.seal(folder, update, {"update": update}) if sealed else path


def newest(folder: Path) -> int | None:
    found = checkpoints.newest(folder)
    return None if found is None else found[1]["update"]


def test_the_newest_sealed_checkpoint_counts(tmp_path: Path) -> None:
    assert newest(tmp_path / "absent") is None
    for update in (9, 10, 2):
        write(tmp_path, update)
    write(tmp_path, 11, sealed=False)
    assert newest(tmp_path) == 10


@pytest.mark.parametrize("damage", ["empty weights", "no weights", "empty seal"])
def test_a_checkpoint_that_a_power_loss_emptied_is_passed_over(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 3)
    path = write(tmp_path, 6)
    file = path / ("sealed.json" if damage == "empty seal" else "model.safetensors")
    file.unlink() if damage == "no weights" else file.write_bytes(b"")
    assert newest(tmp_path) == 3
    checkpoints.drop_torn(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_a_seal_that_knows_no_files_still_counts(tmp_path: Path) -> None:
    path = write(tmp_path, 3, sealed=False)
    (path / "sealed.json").write_text(json.dumps({"update": 3, "memory": {"update": 3}}))
    assert newest(tmp_path) == 3


def test_what_else_lies_beside_checkpoints_is_left_alone(tmp_path: Path) -> None:
    for update in (1, 2, 3):
        write(tmp_path, update)
    (tmp_path / "checkpoint-7").write_text("a file")
    (tmp_path / "checkpoint-3 (copy)").mkdir()
    (tmp_path / "checkpoint-²").mkdir()
    checkpoints.keep_newest(tmp_path, 1, spare=str(tmp_path / "checkpoint-1"))
    checkpoints.drop_torn(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint-1", "checkpoint-3", "checkpoint-7", "checkpoint-3 (copy)", "checkpoint-²"}


def half_written(folder: Path, *, mine: bool, sealed: bool = False) -> None:
    with checkpoints.all_or_nothing(folder, 6, mine=mine):
        write(folder, 6, sealed=sealed)
        raise OSError("full")


@pytest.mark.parametrize("mine", [True, False])
def test_half_a_checkpoint_gives_its_room_back(tmp_path: Path, *, mine: bool) -> None:
    write(tmp_path, 3)
    with pytest.raises(OSError, match="full"):
        half_written(tmp_path, mine=mine)
    assert (tmp_path / "checkpoint-6").exists() == (not mine)
    assert newest(tmp_path) == 3


def test_an_error_after_the_seal_costs_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"):
        half_written(tmp_path, mine=True, sealed=True)
    assert newest(tmp_path) == 6
