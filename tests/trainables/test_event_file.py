"""What TensorBoard is told: what it reads of it, and that a disk that fills up never holds a trial."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import disks
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams
from transformers import TrainerControl, TrainerState

from trainables.callbacks import TensorBoard
from trainables.failures import STORAGE, classify

ARGUMENTS: Any = SimpleNamespace()


def at(update: int, *, first: bool = True) -> TrainerState:
    return TrainerState(global_step=update, max_steps=20, is_world_process_zero=first)


def begun(folder: Path, update: int = 0, **more: Any) -> TensorBoard:
    board = TensorBoard(folder, {"learning_rate": 0.1, "reduction": "mean", "fp16": False, "model": None})
    board.on_train_begin(ARGUMENTS, at(update, **more), TrainerControl())
    return board


def log(board: TensorBoard, update: int, **values: float) -> None:
    board.on_log(ARGUMENTS, at(update), TrainerControl(), {"update": update, "epoch": 1.0, **values})


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in read(folder).Scalars(tag)]


def test_an_attempt_that_goes_on_strikes_out_what_lay_behind_its_checkpoint(tmp_path: Path) -> None:
    board = begun(tmp_path)
    for update in (1, 2, 3):
        log(board, update, loss=float(update))
    log(board, 3, eval_wer=0.5)
    board.on_save(ARGUMENTS, at(3), TrainerControl())
    again = begun(tmp_path, 2)
    log(again, 3, loss=30.0)
    again.on_train_end(ARGUMENTS, at(3), TrainerControl())
    assert curve(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("hook", ["on_evaluate", "on_save", "on_train_end"])
def test_what_was_logged_is_on_disk_behind_an_evaluation_a_checkpoint_and_the_end(tmp_path: Path, hook: str) -> None:
    board = begun(tmp_path)
    log(board, 1, eval_wer=0.5)
    getattr(board, hook)(ARGUMENTS, at(1), TrainerControl())
    assert curve(tmp_path, "validation/wer") == [(1, 0.5)]


def test_hyperparameters_and_final_scores_are_found_by_the_page_hparams(tmp_path: Path) -> None:
    begun(tmp_path).close({"wer": 0.25, "cer": None})
    found = read(tmp_path)
    assert found.Scalars("final/wer")[0].value == 0.25
    told = found.PluginTagToContent(hparams.PLUGIN_NAME)
    assert set(told) == {hparams.EXPERIMENT_TAG, hparams.SESSION_START_INFO_TAG, hparams.SESSION_END_INFO_TAG}
    start = hparams.parse_session_start_info_plugin_data(told[hparams.SESSION_START_INFO_TAG])
    assert start.hparams["learning_rate"].number_value == 0.1
    assert start.hparams["reduction"].string_value == "mean"


def test_one_worker_of_several_writes(tmp_path: Path) -> None:
    board = begun(tmp_path / "run", first=False)
    log(board, 1, loss=1.0)
    board.close({"wer": 0.5})
    assert not (tmp_path / "run").exists()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk", "256k") as disk:
        yield disk


def test_a_disk_that_fills_up_is_an_error_of_the_trial_and_never_holds_it(disk: Path) -> None:
    board = begun(disk / "run")
    log(board, 1, loss=1.0)
    board.on_save(ARGUMENTS, at(1), TrainerControl())
    filler = disks.fill(disk)
    met: list[BaseException] = []

    def train() -> None:
        try:
            for update in range(2, 10_000):
                log(board, update, loss=1.0)
        except OSError as error:
            met.append(error)

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "the trial waits for ever"
    (error,) = met
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert classify(error) == STORAGE
    filler.unlink()
    again = begun(disk / "run", 1)
    log(again, 2, loss=2.0)
    again.close({})
    assert curve(disk / "run", "train/loss") == [(1, 1.0), (2, 2.0)]


def test_a_disk_that_is_full_at_the_end_is_told_too(disk: Path) -> None:
    board = begun(disk / "run")
    disks.fill(disk)
    board.hyperparameters = {f"key_{number}": "x" * 100 for number in range(100)}  # more than what is left of a page
    with pytest.raises(OSError, match="No space left"):
        board.close({"wer": 0.5})
