"""Studies that end before their last trial, or begin again: --fail-fast, --fresh. Real Ray; slow."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest
import s3
from launches import DEADLINE_SECONDS, STUDY, start

from launcher import results
from launcher.mirror import Mirror

pytestmark = [pytest.mark.slow, pytest.mark.ray]
# Another one diverges at its third update.
LONG = ("--set", "num_train_epochs=30", "--set", "eval_strategy=no")


def launch(folder: Path, data: Path, *words: str) -> tuple[int, str]:
    process = start(folder, data, *STUDY, *words, "--backend", "tune")
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, stderr


def table(folder: Path) -> pd.DataFrame:
    return results.load(folder).results.set_index("learning_rate")


def test_fail_fast_stops_at_the_first_failure_and_the_command_that_it_prints_goes_on(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = (*LONG, "--set", "learning_rate=1e30,0.003,0.002", "--max-concurrent", "2", "--fail-fast")
    code, stderr = launch(out, data, *words)
    stopped = table(out)
    failed = stopped.loc[1e30, "trial_id"]
    assert code == 3, stderr
    assert stopped.loc[1e30, "status"] == "failed"
    assert stopped.loc[0.002, "status"] in ("interrupted", "pending"), "it was to come when the first failed"
    assert f"stopping, as {failed} failed (--fail-fast)" in stderr
    assert f"failed: {failed}: Diverged" in stderr
    (told,) = (line for line in stderr.splitlines() if "to go on: " in line)
    assert told.startswith("stopped, as a trial failed (--fail-fast); to go on: python launch.py --grid losses")
    assert told.endswith("; trials that failed wait for --retry-failed")
    command = told.partition("to go on: python launch.py ")[2].partition("; ")[0]
    assert set(words) <= set(shlex.split(command))
    kept = (results.trial_folder(out, failed) / "failure.json").read_bytes()

    code, stderr = launch(out, data, *words)
    assert code == 3, stderr
    done = (stopped["status"] == "done").sum()
    assert f"3 trials: {done} done, {2 - done} to run; 1 failed before (--retry-failed runs them again)" in stderr
    assert "to go on: " not in stderr
    ended = table(out)
    assert ended["status"].to_dict() == {1e30: "failed", 0.003: "done", 0.002: "done"}
    assert ended.loc[1e30, "attempts"] == 1
    assert (results.trial_folder(out, failed) / "failure.json").read_bytes() == kept


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_fresh_runs_all_again_and_keeps_every_result_also_twice_in_a_row(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with s3.bucket() as bucket:
        uri = bucket.uri("studies/fresh")
        to = ("--out", uri) if where == "bucket" else ()

        def there(number: int) -> Path:
            if where == "folder":
                return tmp_path / "out"
            Mirror(uri, tmp_path / f"seen {number}").pull()
            return tmp_path / f"seen {number}"

        code, stderr = launch(tmp_path / "out", data, *to)
        assert code == 0, stderr
        (first,) = there(0).glob("trials/*/result.json")
        name, made = first.parent.name, [first.read_bytes()]
        curves = {path.read_bytes() for path in there(0).glob("tensorboard/*/events.*")}
        for number in (1, 2) if where == "folder" else (1,):
            code, stderr = launch(tmp_path / "out", data, *to, "--fresh")
            assert code == 0, stderr
            assert "1 trials: 0 done, 1 to run" in stderr
            seen = there(number)
            kept = {path.read_bytes() for path in seen.glob(f"replaced/{name}.*/result.json")}
            assert kept == set(made)
            made.append((seen / "trials" / name / "result.json").read_bytes())
            assert len(set(made)) == number + 1, "run again, not copied: times differ"
            kept = {path.read_bytes() for path in seen.glob(f"replaced/{name}.*/tensorboard/events.*")}
            assert curves <= kept, "the curves of before are kept aside"
            curves = {path.read_bytes() for path in seen.glob("tensorboard/*/events.*")}
            assert curves, "and new ones are there"
            assert not curves & kept
            (row,) = results.load(seen).results.to_dict("records")
            assert (row["status"], row["attempts"]) == ("done", 1)
        histories = [*seen.glob("trials/*/history.parquet"), *seen.glob("replaced/*/history.parquet")]
        losses = [pd.read_parquet(path)["loss"].to_list() for path in histories]
        assert len(losses) == len(made)
        assert all(one == losses[0] for one in losses)

        code, stderr = launch(tmp_path / "out", data, *to, "--fresh", "--address", "127.0.0.1:9")
        assert code == 2, stderr
        assert "no Ray cluster answers at --address '127.0.0.1:9'" in stderr
        seen = there(3)
        assert (seen / "trials" / name / "result.json").read_bytes() == made[-1]
        assert len(list(seen.glob("replaced/*"))) == len(made) - 1, "the refused launch put back what it set aside"
