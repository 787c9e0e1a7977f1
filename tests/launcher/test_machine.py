from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from launcher import machine
from launcher.config import ConfigurationError
from launcher.start import Placing

HERE = Placing(
    address=None,
    workers=1,
    backend="tune",
    max_concurrent=None,
    gpus_per_worker="1",
    cpus_per_worker="1",
    fail_fast=False,
    early_stopping=False,
)
TRIAL: dict[str, dict[str, object]] = {"Trainer Arguments": {}}
ON_CPU: dict[str, dict[str, object]] = {"Trainer Arguments": {"use_cpu": True}}


@pytest.fixture(autouse=True)
def without_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_no_more_trials_at_a_time_than_cores_or_trials_or_was_asked_for() -> None:
    cores = machine.counted_cores()
    assert machine.sizing(HERE, [TRIAL] * 1000, {})[0].max_concurrent <= cores
    assert machine.sizing(HERE, [TRIAL] * 1, {})[0].max_concurrent == 1
    assert machine.sizing(dataclasses.replace(HERE, max_concurrent=1), [TRIAL] * 1000, {})[0].max_concurrent == 1


def test_trials_that_need_all_memory_run_one_at_a_time() -> None:
    assert machine.sizing(HERE, [TRIAL] * 1000, {"CPU": 1e15})[0].max_concurrent == 1


def test_a_cluster_is_not_asked_and_that_is_said() -> None:
    sized, told = machine.sizing(dataclasses.replace(HERE, address="head:6379"), [TRIAL] * 10, {})
    assert (sized.max_concurrent, told) == (1, "assumed: head:6379 is not asked for a plan")
    sized, told = machine.sizing(dataclasses.replace(HERE, address="head:6379", max_concurrent=4), [TRIAL] * 10, {})
    assert (sized.max_concurrent, told) == (4, "--max-concurrent")


def test_what_this_machine_would_refuse_is_told_in_the_plan() -> None:
    sized, told = machine.sizing(dataclasses.replace(HERE, workers=4096), [TRIAL] * 10, {})
    assert sized.max_concurrent == 1
    assert "--workers 4096" in told


@pytest.mark.parametrize(("visible", "count"), [(None, 3), ("", 0), ("-1", 0), ("1", 1), ("0,2", 2), ("0,1,2,3", 3)])
def test_gpus_that_cuda_would_not_show_do_not_count(
    tmp_path: Path, monkeypatch, visible: str | None, count: int
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine._gpus(tmp_path) == count


def test_a_plan_counts_the_cores_that_ray_counts_and_not_those_this_process_may_use(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    assert machine.usable_cores() == 1
    assert machine.here().cpus == machine.counted_cores() == os.cpu_count()


@pytest.mark.parametrize(("where", "line", "seen"), [("", "0::/", True), ("slurm/", "0::/slurm", False)])
def test_a_limit_counts_where_ray_looks_for_it(tmp_path: Path, where: str, line: str, seen: bool) -> None:
    (tmp_path / where).mkdir(exist_ok=True)
    for name, value in (("cpu.max", "100000 100000"), ("memory.max", "1000000"), ("memory.current", "0")):
        (tmp_path / where / name).write_text(value)
    (tmp_path / "self").write_text(line)
    found = machine.here(tmp_path, tmp_path / "self")
    assert found.cpus == (1 if seen else os.cpu_count())
    assert (found.memory_bytes == 0.7 * 1e6) is seen


def test_auto_is_worked_out_without_a_ray_that_could_be_asked(tmp_path: Path, monkeypatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'H200, 570.1, 10000, 0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(machine, "_gpus", lambda: 1)
    asked = dataclasses.replace(HERE, gpus_per_worker="auto")
    assert machine.sizing(asked, [TRIAL] * 100, {})[0].gpus_per_worker == 1
    assert (
        machine.sizing(asked, [TRIAL] * 100, {"GPU": 2000 * 2**20})[0].gpus_per_worker == 1 / 4
    )  # a quarter of margin


def test_trials_that_leave_the_gpu_alone_are_planned_and_checked_by_cores(monkeypatch) -> None:
    monkeypatch.setattr(machine, "_gpus", lambda: 1)
    two = dataclasses.replace(HERE, workers=2, backend="train")
    with pytest.raises(ConfigurationError, match="GPU"):
        machine.check(two, [TRIAL])
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    machine.check(two, [ON_CPU])
    sized, told = machine.sizing(HERE, [ON_CPU] * 4, {})
    assert (sized.use_gpu, told.partition(",")[0]) == (False, "8 CPU cores here")
    assert machine.sizing(HERE, [TRIAL] * 4, {})[0].use_gpu
    with pytest.raises(ConfigurationError, match="use_cpu is True for some trials"):
        machine.check(two, [TRIAL, ON_CPU])
