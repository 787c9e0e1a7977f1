"""A trial says what it computed on, also where the machine has more than that.

There is no GPU where these tests run: what torch says of one is put in its place.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from trials import job, run, small_store

from trainables import hardware, model_setup

OF_THE_GPU = 123


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let torch tell of a GPU; returns what was asked of it."""
    asked: list[str] = []
    answers = {
        "get_device_name": "NVIDIA H200", "max_memory_allocated": OF_THE_GPU, "reset_peak_memory_stats": None,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name, answer=answer: asked.append(name) or answer)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return asked


def test_a_trial_on_a_gpu_names_it_and_its_memory(gpu) -> None:
    hardware.forget_peak_memory({})
    assert (hardware.name({}), hardware.peak_memory_bytes({"use_cpu": False})) == ("NVIDIA H200", OF_THE_GPU)
    assert gpu == ["reset_peak_memory_stats", "get_device_name", "max_memory_allocated"]


def test_without_a_gpu_it_is_the_processor(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware.name({}) == "cpu"
    assert hardware.peak_memory_bytes({}) > 10_000_000


def test_the_trainer_computes_on_what_is_named(gpu, tmp_path: Path) -> None:
    arguments = model_setup.training_arguments({"use_cpu": True}, tmp_path)
    assert arguments.device.type == hardware.name({"use_cpu": True}) == "cpu"


def test_a_trial_that_was_told_to_leave_the_gpu_asks_nothing_of_it_and_names_the_processor(
    gpu, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    # One that trains nothing: transformers' own checkpoints ask torch for the state of whatever the machine has.
    result = run(job(small_store(tmp_path_factory), tmp_path, {"use_cpu": True, "do_train": False}))
    assert result["device"] == "cpu"
    assert result["peak_memory_bytes"] > 10_000_000
    assert gpu == []
