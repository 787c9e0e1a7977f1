"""A local copy of a folder on servers of S3 and of Google Cloud Storage, and on a file system that is no object store."""

from __future__ import annotations

import errno
import io
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import disks
import gcs
import pytest
import s3

from launcher import attempts, retries, uploads
from launcher.mirror import Mirror
from launcher.retries import StorageError


@pytest.fixture(scope="module")
def bucket() -> Iterator[s3.Bucket]:
    with s3.bucket() as made:
        yield made


@pytest.fixture(scope="module")
def of_google() -> Iterator[gcs.Bucket]:
    with gcs.bucket() as made:
        yield made


@pytest.fixture(params=["s3", "gs", "local"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return f"file://{tmp_path}/there"
    made: s3.Bucket | gcs.Bucket = request.getfixturevalue("bucket" if request.param == "s3" else "of_google")
    return made.uri(tmp_path.name)


def written(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def everything(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_is_sent_by_one_machine_comes_to_another(uri: str, tmp_path: Path) -> None:
    here = Mirror(uri, written(tmp_path / "a", x="one", deep__y="two", empty=""))
    here.push(here.changed(here.files()))
    there = Mirror(uri, tmp_path / "b")
    there.pull()
    assert everything(tmp_path / "b") == {"x": "one", "deep/y": "two", "empty": ""}
    assert there.changed(there.files()) == []


def test_locks_and_half_written_files_are_not_named(tmp_path: Path) -> None:
    written(tmp_path, x="", **{".lock": "", ".x.12.part": "", ".hidden__y": ""})
    assert Mirror("file:///elsewhere", tmp_path).files() == ["x"]


def test_only_what_changed_travels(uri: str, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    mirror = Mirror(uri, written(tmp_path / "a", x="one", y="two"), index)
    mirror.push(mirror.files())
    written(tmp_path / "a", y="two and more")
    again = Mirror(uri, tmp_path / "a", index)
    assert again.changed(again.files()) == ["y"]
    before = (tmp_path / "a" / "x").stat().st_ino
    again.pull()
    assert (tmp_path / "a" / "x").stat().st_ino == before  # not copied again


def test_what_changed_there_wins_and_what_is_gone_there_goes(uri: str, tmp_path: Path) -> None:
    mine = Mirror(uri, written(tmp_path / "a", x="one", y="two"))
    mine.push(mine.files())
    other = Mirror(uri, tmp_path / "b")
    other.pull()
    written(tmp_path / "b", x="changed by the other")
    other.push(["x"])
    other.remove(["y"])
    written(tmp_path / "a", unsent="mine")
    mine.pull()
    assert everything(tmp_path / "a") == {"x": "changed by the other", "unsent": "mine"}


def test_a_copy_that_lost_a_file_gets_it_again_and_removes_nothing_there(uri: str, tmp_path: Path) -> None:
    mirror = Mirror(uri, written(tmp_path / "a", x="one", y="two"))
    mirror.push(mirror.files())
    (tmp_path / "a" / "x").unlink()
    assert mirror.gone() == ["x"]
    mirror.pull()
    assert everything(tmp_path / "a") == {"x": "one", "y": "two"}


def test_times_order_files_here_as_there(uri: str, tmp_path: Path) -> None:
    mirror = Mirror(uri, written(tmp_path / "a", old="1", new="2"))
    os.utime(tmp_path / "a" / "old", ns=(0, 0))
    mirror.push(["old", "new"])
    copy = Mirror(uri, tmp_path / "b")
    copy.pull()
    there = copy.listing()
    assert {name: (tmp_path / "b" / name).stat().st_mtime_ns for name in there} == {
        name: stamp.time for name, stamp in there.items()
    }


def test_half_of_a_move_leaves_nothing_that_counts_as_whole(uri: str, tmp_path: Path, monkeypatch) -> None:
    mirror = Mirror(uri, tmp_path / "here")
    names = ["t/attempts.json", "t/checkpoints/checkpoint-2/sealed.json", "t/history.parquet", "t/result.json"]
    for name in names:
        mirror.write(name, b"x")
    moved: list[str] = []
    monkeypatch.setattr(Mirror, "_move", lambda self, name, target: moved.append(name))
    mirror.move("t", "aside/t")
    assert moved[:2] == ["t/result.json", "t/checkpoints/checkpoint-2/sealed.json"]
    assert sorted(moved) == names


def test_a_folder_is_moved_with_what_is_not_copied(uri: str, tmp_path: Path) -> None:
    mirror = Mirror(uri, written(tmp_path / "a", t__small="1", t__heavy="2"))
    mirror.push(mirror.files())
    light = Mirror(uri, tmp_path / "b")
    light.pull(wants=lambda name: "heavy" not in name)
    light.move("t", "aside/t")
    assert sorted(light.listing()) == ["aside/t/heavy", "aside/t/small"]
    assert everything(tmp_path / "b") == {"aside/t/small": "1"}


def test_a_file_that_goes_while_it_is_to_be_sent_is_left_out(uri: str, tmp_path: Path) -> None:
    mirror = Mirror(uri, written(tmp_path / "a", x="one"))
    mirror.push(["gone", "x"])
    assert list(mirror.listing()) == ["x"]


def test_removing_what_is_gone_is_no_error(uri: str, tmp_path: Path) -> None:
    mirror = Mirror(uri, written(tmp_path / "a", x="one"))
    mirror.push(["x"])
    mirror.remove(["x"])
    mirror.remove(["x"])
    assert mirror.read("x") is None


def test_names_from_there_cannot_leave_the_folder_here(bucket: s3.Bucket, tmp_path: Path) -> None:
    for name in ("a/../../evil", "good"):
        bucket.write(f"strange/{name}", b"x")
    Mirror(bucket.uri("strange"), tmp_path / "a" / "b").pull()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "a" / "b" / "good"]


def test_a_file_is_never_seen_in_part_where_writing_is_no_single_step(tmp_path: Path, monkeypatch) -> None:
    mirror = Mirror(f"file://{tmp_path}/there", written(tmp_path / "a", x="one"))
    mirror.push(["x"])

    def breaks(file: object) -> Iterator[bytes]:
        yield b"half of"
        raise KeyboardInterrupt

    monkeypatch.setattr("launcher.uploads.blocks", breaks)
    with pytest.raises(KeyboardInterrupt):
        mirror.push(["x"])
    assert (tmp_path / "there" / "x").read_text() == "one"


@pytest.mark.parametrize("blocks", [1, 4])
def test_an_interrupt_cannot_end_an_object_in_its_middle(blocks: int, bucket: s3.Bucket, tmp_path, monkeypatch) -> None:
    mirror = Mirror(bucket.uri(f"interrupted-{blocks}"), written(tmp_path, x="one"))
    mirror.push(["x"])

    def interrupted(file: object) -> Iterator[bytes]:
        for number in range(blocks):
            if number == blocks // 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield b"two" * 2**21

    monkeypatch.setattr("launcher.uploads.blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mirror.push(["x"])
    for thread in threading.enumerate():  # it may have come while the thread that writes was being started
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join()
    assert bucket.read(f"interrupted-{blocks}/x") == b"two" * 2**21 * blocks


@pytest.mark.parametrize(("blocks", "left"), [(1, [b"one"]), (4, [])])
def test_a_file_that_cannot_be_read_to_its_end_leaves_no_part_of_it(
    blocks: int, left: list[bytes], bucket: s3.Bucket, tmp_path: Path, monkeypatch
) -> None:
    under = f"unreadable-{blocks}"
    mirror = Mirror(bucket.uri(under), written(tmp_path, x="one"))
    mirror.push(["x"])

    class Disk(io.FileIO):
        read_so_far = 0

        def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
            self.read_so_far += 1
            if self.read_so_far > blocks:
                raise OSError(errno.EIO, "the disk is damaged")
            return b"half of" * 2**20

    all_read = uploads.blocks
    monkeypatch.setattr(uploads, "blocks", lambda file: all_read(Disk(file.name)))
    with pytest.raises(StorageError, match=r"x cannot be read: .*the disk is damaged"):
        mirror.push(["x"])
    assert [bucket.read(f"{under}/{name}") for name in bucket.keys(under)] == left


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s4://bucket/x", "give a folder, or a URI that pyarrow knows"),
        ("s3://bucket/x?no_such_option=1", "no_such_option"),
    ],
)
def test_a_uri_that_is_none_is_said_so(uri: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=said):
        Mirror(uri, tmp_path)


def test_a_bucket_that_is_none_is_said_so_at_once(bucket: s3.Bucket, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be written \(x\).*bucket does not exist"):
        Mirror(bucket.uri("a").replace(bucket.name, "no-bucket"), tmp_path).write("x", b"")


def test_a_file_that_goes_between_listing_and_reading_is_left_out(uri: str, tmp_path: Path, monkeypatch) -> None:
    """Progress and seals of a running study come and go while somebody reads it."""
    other = Mirror(uri, written(tmp_path / "a", x="one", y="two"))
    other.push(["x", "y"])
    reader = Mirror(uri, tmp_path / "b")
    listed = reader.listing()
    other.remove(["x"])
    monkeypatch.setattr(reader, "listing", lambda under="": listed)
    reader.pull()
    assert reader.files() == ["y"]


def test_a_full_disk_here_is_no_fault_of_the_bucket_and_keeps_no_half_file(tmp_path: Path, monkeypatch) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for name in ("a", "b", "c"):
        (there / name).write_bytes(bytes(100_000))
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: pytest.fail("waits for room on its own disk"))
    with disks.small_disk(tmp_path / "disk", "64k") as disk:
        mirror = Mirror(f"file://{there}", disk, is_known=True)
        with pytest.raises(
            retries.NoRoom, match=rf"{disk}/. cannot be written on this machine \(No space left"
        ) as full:
            retries.at_length(mirror.pull)
        assert list(disk.iterdir()) == []
    assert attempts.settle(tmp_path, "one", full.value, before=0) is attempts.Verdict.HALT


def test_what_is_repeated_goes_on_behind_any_error(capsys: pytest.CaptureFixture[str]) -> None:
    turns, enough = [], threading.Event()

    def work() -> None:
        turns.append(1)
        if len(turns) > 5:
            enough.set()
        if len(turns) != 4:
            raise OSError(errno.ENOSPC, "no space left at s3://KEY:SECRET@b/x")

    with retries.repeated(work, 0.001):
        assert enough.wait(60)
    told = capsys.readouterr().err
    assert "SECRET" not in told
    said = "[Errno 28] no space left at s3://KEY:***@b/x; trying again"
    assert told.splitlines() == [said, "what failed works again", said]  # an outage is one line, however long
