"""What a launch does with the folder of a study before it begins, and what it says of records that are damaged."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import s3
from conftest import small_rows, write_manifest

from launcher import folder, grid, places, reading, results, start
from launcher.mirror import Mirror
from launcher.places import Place
from tests.launcher.studies import checkpoint, finished, put, study

TRIALS = study("reduction=sum,mean", "seed=1").trials()
NAMES = [trial.trial_id for trial in TRIALS]


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


@pytest.fixture(scope="module")
def bucket() -> Iterator[s3.Bucket]:
    with s3.bucket() as made:
        yield made


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The study of a launch: a folder, or a bucket with its copy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "folder":
        where = str(tmp_path / "out")
        Path(where).mkdir()
    else:
        where = request.getfixturevalue("bucket").uri(f"studies/{tmp_path.name}")
    with places.launched(where, wanted=True) as made:
        yield made


def content(place: Place, tmp_path: Path, name: str) -> dict[str, bytes]:
    """Read all that is there, whoever's copy this process has."""
    seen = place.folder
    if place.uri is not None:
        seen = tmp_path / name
        Mirror(place.uri, seen).pull()
    files = [path for path in seen.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(seen).as_posix(): path.read_bytes() for path in files}


def ends(place: Place, wer: float) -> None:
    """Let every trial end, with what a worker leaves of one: tables, weights, curves."""
    for trial in TRIALS:
        where = put(place.folder, trial.trial_id, result=finished(wer=wer))
        (where / "model").mkdir(exist_ok=True)
        (where / "model" / "model.safetensors").write_bytes(b"weights %f" % wer)
        board = place.folder / "tensorboard" / trial.run_name
        board.mkdir(parents=True, exist_ok=True)
        (board / f"events.{wer}").write_bytes(b"curve %f" % wer)
    place.send()


def set_aside(place: Place) -> list[tuple[Path, Path]]:
    rows = {name: results.outcome(results.trial_folder(place.folder, name)) for name in NAMES}
    moved = folder.set_aside(TRIALS, rows, place)
    assert [row["status"] for row in rows.values()] == ["pending", "pending"]
    return moved


def test_what_was_finished_is_kept_aside_as_often_as_all_begins_again(place: Place, tmp_path: Path) -> None:
    everything: list[bytes] = []
    for wer in (0.5, 0.25, 0.125):  # three times within a second
        ends(place, wer)
        before = content(place, tmp_path, f"before {wer}")
        everything += [data for name, data in before.items() if name.startswith(("trials/", "tensorboard/"))]
        set_aside(place)
        after = content(place, tmp_path, f"after {wer}")
        assert sorted(after.values()) == sorted(before.values()), "nothing is lost, and nothing is there twice"
        assert all(name.startswith("replaced/") for name in after)
    assert len(everything) == 3 * 2 * 3
    assert sorted(after.values()) == sorted(everything)


def test_a_launch_that_was_refused_puts_back_what_it_set_aside(place: Place, tmp_path: Path) -> None:
    ends(place, 0.5)
    before = content(place, tmp_path, "before")
    moved = set_aside(place)
    for name in NAMES:  # as the refused launch handed them out
        put(place.folder, name, trial={"launches": []})
    place.send()
    folder.put_back(moved, place)
    place.send()
    assert content(place, tmp_path, "after") == before


def test_what_cannot_be_set_aside_stays_where_it_lay_and_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path)
    ends(place, 0.5)
    (results.trial_folder(tmp_path, NAMES[1]) / "tensorboard").touch()  # its curves find a file in their way
    before = content(place, tmp_path, "before")
    with pytest.raises(results.ResultsError, match=r"cannot write .*replaced/.*/tensorboard \(Not a directory"):
        set_aside(place)
    assert content(place, tmp_path, "after") == before


def test_results_are_put_back_where_a_fresh_launch_has_no_room_to_hand_out_its_trials(
    tmp_path: Path, monkeypatch
) -> None:
    manifest, place = write_manifest(tmp_path / "m.csv", small_rows(tmp_path)), Place(tmp_path / "out")
    request = grid.Request("losses", "launch", out=place.folder, data=str(manifest), address="local")

    def has_no_room(*_: Any) -> None:
        raise reading.unwritable(
            place.folder / "trials" / "trial.conf", OSError(errno.ENOSPC, "No space left on device")
        )

    monkeypatch.setattr(start.handover, "describe", has_no_room)
    with pytest.raises(start.Unbegun):
        grid.execute(request)
    for trial in results.read_study(place.folder)["trials"]:
        put(place.folder, trial["trial_id"], result=finished())
    before = content(place, tmp_path, "before")
    with pytest.raises(start.Unbegun, match="No space left") as full:
        grid.execute(replace(request, fresh=True))
    assert full.value.exit_code == 130
    after = content(place, tmp_path, "after")
    assert {name: data for name, data in after.items() if name != "study.json"} == {
        name: data for name, data in before.items() if name != "study.json"
    }


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ESTALE])
def test_a_file_system_without_locks_is_not_told_as_another_launch(tmp_path: Path, monkeypatch, number: int) -> None:
    def has_none(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder.fcntl, "flock", has_none)
    with pytest.raises(results.ResultsError, match=f"without locks .{os.strerror(number)}.; give an --out on another"):
        with folder.held(tmp_path, wanted=True):
            pass
