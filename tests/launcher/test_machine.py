from __future__ import annotations

import dataclasses
import os

import pytest

from launcher import machine
from launcher.start import Placing

HERE = Placing(
    address=None,
    workers=1,
    backend="tune",
    max_concurrent=None,
    gpus_per_worker="1",
    fail_fast=False,
    early_stopping=False,
)


@pytest.fixture(autouse=True)
def without_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_no_more_trials_at_a_time_than_cores_or_trials_or_was_asked_for() -> None:
    cores = len(os.sched_getaffinity(0))
    assert machine.sizing(HERE, 1000, {})[0].max_concurrent <= cores
    assert machine.sizing(HERE, 1, {})[0].max_concurrent == 1
    assert machine.sizing(dataclasses.replace(HERE, max_concurrent=1), 1000, {})[0].max_concurrent == 1


def test_trials_that_need_all_memory_run_one_at_a_time() -> None:
    assert machine.sizing(HERE, 1000, {"CPU": 1e15})[0].max_concurrent == 1


def test_a_cluster_is_not_asked_and_that_is_said() -> None:
    sized, told = machine.sizing(dataclasses.replace(HERE, address="head:6379"), 10, {})
    assert (sized.max_concurrent, told) == (1, "assumed: head:6379 is not asked for a plan")
    sized, told = machine.sizing(dataclasses.replace(HERE, address="head:6379", max_concurrent=4), 10, {})
    assert (sized.max_concurrent, told) == (4, "--max-concurrent")


def test_what_this_machine_would_refuse_is_told_in_the_plan() -> None:
    sized, told = machine.sizing(dataclasses.replace(HERE, workers=4096), 10, {})
    assert sized.max_concurrent == 1
    assert "--workers 4096" in told


def test_gpus_that_cuda_would_not_show_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.here().gpus == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert machine.here().gpus == 0
