"""Limits of control groups are read as the kernel writes them, in both versions and at every level."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher import cgroups, doctor_machine
from launcher.cgroups import Limit
from launcher.findings import OK, WARNING


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def member(folder: Path, line: str) -> Path:
    path = folder / "self-cgroup"
    path.write_text(line + "\n")
    return path


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, Limit(1.5, 0, at_root=True)),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/job/step", {"job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"}, Limit(2, 0, at_root=False)),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, Limit(0.5, 0, at_root=True)),
        ("4:cpu,cpuacct:/docker/ab", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/../outside", {"cpu.max": "max 100000"}, None),
    ],
)  # fmt: skip
def test_the_smallest_quota_of_all_groups_counts(tmp_path: Path, line, files, expected) -> None:
    assert cgroups.cores(tree(tmp_path / "fs", files), member(tmp_path, line)) == expected


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/", {"memory.max": "max"}, None),
        ("0::/a", {"a/memory.max": "4000", "a/memory.current": "1000"}, Limit(4000, 1000, at_root=False)),
        ("9:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("9:memory:/", {"memory/memory.limit_in_bytes": "500", "memory/memory.usage_in_bytes": "20"}, Limit(500, 20, at_root=True)),
    ],
)  # fmt: skip
def test_a_limit_of_memory_comes_with_what_is_used_of_it(tmp_path: Path, line, files, expected) -> None:
    assert cgroups.memory_bytes(tree(tmp_path / "fs", files), member(tmp_path, line)) == expected


def test_a_system_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert cgroups.cores(tmp_path / "none", tmp_path / "none") is None
    assert cgroups.memory_bytes(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize(("where", "line", "level"), [("", "0::/", OK), ("slurm/", "0::/slurm", WARNING)])
def test_limits_that_ray_cannot_see_are_a_warning(tmp_path: Path, where: str, line: str, level: str) -> None:
    files = {f"{where}cpu.max": "50000 100000", f"{where}memory.max": str(10**10), f"{where}memory.current": "0"}
    root, membership = tree(tmp_path / "fs", files), member(tmp_path, line)
    (cores,) = doctor_machine.cores(root, membership)
    assert "of which this process may use 0.5" in cores.text
    # One core is the least that Ray counts: on a machine of one there is nothing to warn of.
    assert cores.level == (level if os.cpu_count() != 1 else OK)
    memory = doctor_machine.memory(root, membership, tight=0)
    assert memory[-1].level == level
    assert "of 10 GB are free: room for 2 trials" in memory[0].text
