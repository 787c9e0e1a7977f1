"""What a launch does with the folder of a study before it begins, and what it says of records that are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import folder, results
from tests.launcher.studies import checkpoint, finished, put


def test_what_a_killed_launch_left_behind_is_removed_and_what_counts_is_not_touched(tmp_path: Path) -> None:
    done, running = put(tmp_path, "done", result=finished(), progress={}), put(tmp_path, "running", progress={})
    for place in (done, running):
        checkpoint(place, 3, 9)
    (tmp_path / ".results.parquet.71.part").write_bytes(b"half")
    kept = (done / "result.json").read_bytes()
    with folder.held(tmp_path, wanted=True):
        pass
    assert {path.name for path in done.iterdir()} == {"result.json"}
    assert (done / "result.json").read_bytes() == kept
    assert {path.name for path in running.iterdir()} == {"progress.json", "checkpoints"}
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", ["attempts", "failure", "result"])
@pytest.mark.parametrize("content", [b"", b'{"attempts": 1, "op', b"\0\0\0\0"])
def test_a_record_that_was_torn_is_named_with_what_to_do(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / f"{name}.json").write_bytes(content)
    with pytest.raises(results.ResultsError, match=rf"{name}\.json is damaged .*; remove it, and the same command"):
        results.outcome(tmp_path)
