"""Which trials a launch hands out again once Ray has broken down."""

from __future__ import annotations

from pathlib import Path

import disks
import pytest

from launcher import results, start
from tests.launcher.studies import finished, put, study, write_study


@pytest.mark.parametrize(
    ("status", "attempts", "ended"),
    [
        ("done", 1, True),
        ("failed", 1, False),  # before this launch, which is to try it again and has not come to it
        ("failed", 2, True),
        ("pruned", 1, False),
        ("interrupted", 2, False),
        ("pending", 0, False),
    ],
)
def test_what_failed_before_this_launch_has_not_ended_in_it(status: str, attempts: int, ended: bool) -> None:
    assert start._has_ended({"status": status, "attempts": attempts}, 1) is ended


def test_a_launch_that_gives_up_says_why_also_where_the_tables_do_not_fit(tmp_path: Path) -> None:
    with disks.small_disk(tmp_path / "disk", "256k") as disk:
        put(disk, study("reduction=sum,mean", "seed=1").trials()[0].trial_id, result=finished())
        write_study(disk, study("reduction=sum,mean", "seed=1"))
        disks.fill(disk)
        halted = start._gave_up(disk, "Ray broke down 3 times")
    assert halted.exit_code == 130
    assert str(halted).startswith(f"Ray broke down 3 times; cannot write {disk}/results.parquet (")
    assert "No space left on device" in str(halted)
    assert "the same command goes on from the last checkpoints" in str(halted)


def test_a_table_that_does_not_fit_is_no_wrong_request(tmp_path: Path) -> None:
    with disks.small_disk(tmp_path / "disk", "64k") as disk:
        disks.fill(disk)
        with pytest.raises(results.ResultsError, match=r"cannot write .*No space left") as full:
            results.write_json(disk / "ray.json", {"url": "http://127.0.0.1:1"})
    assert full.value.exit_code == 130  # type: ignore[attr-defined]
    (tmp_path / "file").touch()
    with pytest.raises(results.ResultsError, match="cannot write") as wrong:
        results.write_json(tmp_path / "file" / "ray.json", {})
    assert not hasattr(wrong.value, "exit_code")
