"""What `doctor` says of Python, packages and torch; packages and programs that are wrong are really there."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import doctor_software
from launcher.doctor_software import Card
from launcher.findings import FAULT, OK, WARNING

GB = 1e9
TORCH = {"version": "2.9", "build": "12.8", "kernels": ["sm_75", "sm_90a"], "devices": [], "bf16": True}
H200 = {"name": "H200", "memory_bytes": 141 * GB, "capability": [9, 0]}
CARD = Card("H200", "570.1", 141 * GB, 0.0)


def distribution(folder: Path, name: str, version: str, *needs: str) -> None:
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    needed = "".join(f"Requires-Dist: {need}\n" for need in needs)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")


def program(folder: Path, name: str, lines: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


def test_this_environment_is_as_the_project_asks() -> None:
    assert [finding.level for finding in doctor_software.packages()] == [OK]
    assert [finding.level for finding in doctor_software.python()] == [OK]


@pytest.mark.parametrize(("version", "bits", "told"), [
    ((3, 9), 64, "needed: 3.10 or newer"), ((3, 12), 32, "64 bit"), ((3, 99), 64, "knows Python up to 3."),
])  # fmt: skip
def test_a_python_that_cannot_run_studies_is_a_fault(version, bits, told) -> None:
    (finding,) = doctor_software.python(version, bits)
    assert finding.level == FAULT
    assert told in finding.text


def test_packages_are_compared_with_what_the_project_asks_for(tmp_path: Path, monkeypatch) -> None:
    distribution(
        tmp_path,
        "sampleproject",
        "1.0",
        "samplebase[web]==2.0",
        "samplelib<3,>=2",
        "samplegone>=1",
        "sampletest; extra == 'test'",
    )
    distribution(tmp_path, "samplebase", "2.1", "sampleserver>=1; extra == 'web'", "other; extra == 'cli'")
    distribution(tmp_path, "samplelib", "1.9+local")
    monkeypatch.syspath_prepend(tmp_path)
    found = [(one.level, one.text) for one in doctor_software.packages("sampleproject")]
    assert found == [
        (FAULT, "samplebase 2.1 is installed; wanted: ==2.0"),
        (FAULT, "samplebase[web] is not whole: sampleserver is not installed"),
        (WARNING, "samplelib 1.9+local is installed; wanted: <3,>=2"),
        (FAULT, "samplegone is not installed; needed: samplegone>=1"),
    ]


def test_a_program_that_is_not_installed_is_told() -> None:
    (finding,) = doctor_software.packages("no-such-distribution")
    assert (finding.level, finding.advice) == (WARNING, "in its folder: pip install --editable .")


def test_a_torch_that_cannot_be_loaded_is_a_fault_with_its_last_line(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = doctor_software.torch()
    assert finding.level == FAULT
    assert "OSError: libcudart.so.13: cannot open shared object file" in finding.text


def test_a_torch_that_hangs_does_not_take_the_doctor_with_it(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "torch.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = doctor_software.torch(seconds=0.5)
    assert finding.level == WARNING


@pytest.mark.parametrize(("torch", "cards", "level", "told"), [
    ({"build": None}, [], OK, "no GPU here"),
    ({}, [], OK, "no GPU here"),
    ({"build": None}, [CARD], WARNING, "built for CPUs alone"),
    ({}, [CARD], WARNING, "sees no device"),
    ({"devices": [H200]}, [CARD], OK, "H200, 141 GB, capability 9.0, bf16"),
    ({"devices": [H200], "bf16": False}, [CARD], OK, "no bf16"),
    ({"devices": [{**H200, "capability": [7, 0]}]}, [CARD], FAULT, "no kernels for it"),
    ({"devices": [H200]}, [Card("H200", "570.1", 141 * GB, 100 * GB)], WARNING, "100 GB of 141 GB are in use"),
])  # fmt: skip
def test_torch_and_the_driver_are_looked_at_together(torch, cards, level, told) -> None:
    last = doctor_software.torch_findings({**TORCH, **torch}, cards)[-1]
    assert last.level == level
    assert told in last.text
    assert bool(last.advice) == (level != OK)


def test_cards_are_read_from_the_driver_as_it_prints_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program(
        tmp_path, "nvidia-smi", "echo 'NVIDIA H200, 570.86.15, 143771, 1'; echo 'NVIDIA A100, 570.86.15, [N/A], [N/A]'"
    )
    one, other = doctor_software.cards()
    assert one == Card("NVIDIA H200", "570.86.15", 143_771 * 2**20, 2**20)
    assert other.memory_bytes == 0
    program(tmp_path, "nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    with pytest.raises(RuntimeError, match="version mismatch"):
        doctor_software.cards()
