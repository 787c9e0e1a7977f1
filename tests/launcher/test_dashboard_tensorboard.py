"""TensorBoard runs as long as the dashboard, shows the runs of every study, and its end is told."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

import pytest

from launcher.dashboard_tensorboard import TensorBoard

SERVES = "import sys, time; print('TensorBoard 2 at http://127.0.0.1:4321/ (Press CTRL+C to quit)', file=sys.stderr); time.sleep(600)"


def program(code: str) -> tuple[str, ...]:
    return sys.executable, "-u", "-c", code


def test_it_is_linked_once_it_serves_and_gone_after_the_end(tmp_path: Path) -> None:
    board = TensorBoard([tmp_path], program(SERVES))
    board.wait(60)
    assert board.state() == {"url": "http://127.0.0.1:4321/"}
    board.end()
    assert "has ended" in board.state()["problem"]


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    board = TensorBoard([tmp_path], program("raise SystemExit('no module named tensorboard')"))
    board.wait(60)
    board.end()
    assert board.state() == {"problem": "TensorBoard has ended: no module named tensorboard"}


def test_several_studies_are_shown_by_name(tmp_path: Path) -> None:
    code = "import os, sys; print(sorted((name, os.readlink(os.path.join(sys.argv[2], name))) for name in os.listdir(sys.argv[2])), file=sys.stderr)"
    board = TensorBoard([tmp_path / "a", tmp_path / "b"], program(code))
    board.wait(60)
    board.end()
    wanted = [(f"{number}-{name}", str(tmp_path / name / "tensorboard")) for number, name in ((1, "a"), (2, "b"))]
    assert str(wanted) in board.state()["problem"]


@pytest.mark.slow
def test_the_real_one_serves_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    board = TensorBoard([tmp_path / "later"])
    try:
        board.wait(120)
        with urllib.request.urlopen(f"{board.state()['url']}data/runs", timeout=60) as answer:
            assert answer.read() == b"[]"
    finally:
        board.end()
