"""Every reduction through the workers of a real Ray Train run, and stock Trainer on several workers beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("invariance")
    dropped = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"HOME": str(folder), "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["--ray-train", "--updates", "6", "--out", str(folder / "out.json")]
    command = [sys.executable, str(ROOT / "benchmarks/invariance.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


def test_no_layout_and_no_number_of_workers_changes_the_gradient_of_any_reduction(measured) -> None:
    assert measured["ray_train"]
    assert len(measured["gradient"]) == 16
    assert {name: values for name, values in measured["gradient"].items() if max(values) >= 1e-5} == {}


def test_no_layout_and_no_number_of_workers_changes_the_weights_after_some_updates(measured) -> None:
    assert {name: values for name, values in measured["weights"].items() if max(values) >= 1e-5} == {}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_stock_reductions_are_what_stock_trainer_does_under_accumulation_and_with_two_workers(
    measured, reduction
) -> None:
    norms = measured["stock_norms"]
    ours, stock = norms[f"lossgrid stock_{reduction}"], norms[f"stock Trainer, {reduction}"]
    assert ours == pytest.approx(stock, rel=1e-5)
