"""Studies on servers of S3 and of Google Cloud Storage: one launch at a time, readers anywhere, and what stays there when a copy is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import gcs
import pytest
import s3

from launcher import lease, live, places, results, sending
from launcher.results import ResultsError


@pytest.fixture(scope="module", params=[s3, gcs], ids=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[s3.Bucket | gcs.Bucket]:
    with request.param.bucket() as made:
        yield made


@pytest.fixture
def uri(bucket: s3.Bucket | gcs.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    on_another_machine(monkeypatch, tmp_path / "one")
    monkeypatch.setattr(lease, "_SETTLED_SECONDS", 0.0)
    return bucket.uri(f"studies/{tmp_path.name}")


def on_another_machine(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Have no copy of anything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def write(folder: Path, **files: object) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def test_a_folder_is_worked_on_in_place(tmp_path: Path) -> None:
    for location in (tmp_path, f"file://{tmp_path}", f"file://localhost{tmp_path}"):
        with places.launched(location, wanted=True) as place:
            assert place == places.Place(tmp_path)
            assert place.shown(tmp_path / "report.html") == f"{tmp_path}/report.html"
    with pytest.raises(ResultsError, match="files of the machine elsewhere cannot be reached"):
        places.of("file://elsewhere/x")


def test_another_machine_sees_a_study_without_its_weights_and_audio(uri: str, tmp_path: Path, monkeypatch) -> None:
    with places.launched(uri, wanted=True) as place:
        write(place.folder, study_json={}, trials__t__result_json={}, trials__t__model__weights={}, stores__s__audio={})
        write(place.folder, **{"trials__t__checkpoints__checkpoint-1__sealed_json": {}})
        write(place.folder, **{"trials__t__checkpoints__checkpoint-1__weights": {}})
        place.send()
    on_another_machine(monkeypatch, tmp_path / "two")
    with places.read(uri) as place:
        assert place.mirror.files() == [
            "study.json",
            "trials/t/checkpoints/checkpoint-1/sealed.json",
            "trials/t/result.json",
        ]
    with places.launched(uri, wanted=True) as place:
        assert (place.folder / "stores" / "s" / "audio").is_file()  # a launch goes on with the data that are prepared
        # its worker died before it could remove what a finished trial does not need
        assert [name for name in place.mirror.listing("trials") if "checkpoints" in name] == []


def test_a_second_launch_is_told_who_runs_the_study(
    uri: str, tmp_path: Path, monkeypatch, bucket: s3.Bucket | gcs.Bucket
) -> None:
    with places.launched(uri, wanted=True):
        with pytest.raises(ResultsError, match="runs on this machine"), places.launched(uri, wanted=True):
            pass
        on_another_machine(monkeypatch, tmp_path / "two")
        with pytest.raises(ResultsError, match=rf"in use by process {os.getpid()} on .*; wait for it"):
            places.launched(uri, wanted=True).__enter__()
    with places.launched(uri, wanted=True):
        pass
    assert bucket.keys(f"studies/{tmp_path.name}") == []  # nothing is left behind


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "gs://", "://x"])
def test_a_uri_without_a_bucket_is_one_message(uri: str) -> None:
    with pytest.raises(ResultsError, match="names no bucket; write"):
        places.of(uri)


def test_the_study_of_a_launch_that_was_killed_is_free_after_a_while(
    uri: str, tmp_path: Path, bucket, monkeypatch
) -> None:
    bucket.write(
        f"studies/{tmp_path.name}/.lock", json.dumps({"id": "x", "who": "process 1 on gone", "since": 1}).encode()
    )
    with pytest.raises(ResultsError, match=r"process 1 on gone.* free in [0-9]+ s"), places.launched(uri, wanted=True):
        pass
    monkeypatch.setattr(lease, "_LAPSED_SECONDS", 0.0)
    with places.launched(uri, wanted=True):
        pass


def test_the_study_of_a_launch_that_was_killed_on_this_machine_is_free_at_once(
    uri: str, tmp_path: Path, bucket
) -> None:
    child = subprocess.Popen(["true"])
    child.wait()  # its number is that of nobody now
    said = {"id": "x", "who": "process 1 on here", "since": 1, "pid": child.pid, **lease._machine()}
    bucket.write(f"studies/{tmp_path.name}/.lock", json.dumps(said).encode())
    with places.launched(uri, wanted=True):
        pass


def test_a_launch_whose_study_was_taken_over_writes_nothing_there_any_more(
    uri: str, tmp_path: Path, bucket: s3.Bucket | gcs.Bucket
) -> None:
    under = f"studies/{tmp_path.name}"
    with places.launched(uri, wanted=True) as place:
        (place.folder / "results.csv").write_text("mine")
        bucket.write(f"{under}/.lock", b'{"id": "another"}')
        with pytest.raises(lease.TakenOver, match="another launch has taken this study over"):
            place.send()
        assert bucket.keys(under) == [".lock"]


def test_a_launch_whose_study_was_taken_over_stops_as_by_ctrl_c_and_keeps_the_others_lease(
    uri: str, tmp_path: Path, bucket: s3.Bucket | gcs.Bucket, monkeypatch
) -> None:
    heard: list[int] = []
    monkeypatch.setattr(lease, "_RENEWED_SECONDS", 0.05)
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    other = json.dumps({"id": "other", "who": "process 2 on other", "since": 1}).encode()
    try:
        with places.launched(uri, wanted=True):
            while not heard:
                # Again, where a renewal that had looked just before wrote over it.
                bucket.write(f"studies/{tmp_path.name}/.lock", other)
                signal.sigtimedwait([], 0.2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert bucket.read(f"studies/{tmp_path.name}/.lock") == other


def test_readers_see_that_a_study_runs_on_another_machine(uri: str, tmp_path: Path, monkeypatch) -> None:
    with places.launched(uri, wanted=True) as place:
        write(place.folder, study_json={"trials": []})
        place.send()
        write(place.folder, trials__t__attempts_json={"attempts": 1, "open": True, "launch": "l", "ended": []})
        place.send()
        on_another_machine(monkeypatch, tmp_path / "two")
        with places.read(uri) as seen:
            holder = live.holder(seen.folder / live.LOCK)
            assert holder.held
            assert holder.words.startswith(f"process {os.getpid()} on ")
            assert live.outcome(results.trial_folder(seen.folder, "t"), holder)["status"] == "running"
    with places.read(uri) as seen:
        assert not live.holder(seen.folder / live.LOCK).held


def test_two_readers_on_one_machine_do_not_wait_for_each_other(uri: str) -> None:
    with places.launched(uri, wanted=True) as place:
        write(place.folder, study_json={"trials": []})
        place.send()
    with places.read(uri) as one, places.read(uri) as other:
        assert one.folder != other.folder
        assert one.mirror.files() == other.mirror.files() == ["study.json"]


def test_whoever_follows_sees_what_is_new(uri: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(places, "_FOLLOWED_SECONDS", 0.02)
    with places.launched(uri, wanted=True) as place:
        on_another_machine(monkeypatch, tmp_path / "two")
        with places.read(uri, follow=True) as seen:
            write(place.folder, study_json={})
            place.send()
            for _ in range(1000):
                if (seen.folder / "study.json").is_file():
                    break
                signal.sigtimedwait([], 0.02)
            assert (seen.folder / "study.json").is_file()


def test_what_is_set_aside_keeps_its_weights(
    uri: str, tmp_path: Path, bucket: s3.Bucket | gcs.Bucket, monkeypatch
) -> None:
    with places.launched(uri, wanted=True) as place:
        write(place.folder, study_json={}, trials__t__model__weights={}, trials__t__result_json={})
        place.send()
    on_another_machine(monkeypatch, tmp_path / "two")
    with places.launched(uri, wanted=True) as place:
        place.move(place.folder / "trials" / "t", place.folder / "replaced" / "t.1")
        place.send()
    assert bucket.keys(f"studies/{tmp_path.name}") == [
        "replaced/t.1/model/weights",
        "replaced/t.1/result.json",
        "study.json",
    ]


def test_a_copy_that_is_removed_costs_nothing_but_copying(
    uri: str, bucket: s3.Bucket | gcs.Bucket, tmp_path: Path
) -> None:
    with places.launched(uri, wanted=True) as place:
        write(place.folder, study_json={}, trials__t__result_json={})
        place.send()
    (place.folder / "trials" / "t" / "result.json").unlink()
    with places.launched(uri, wanted=True) as place:
        assert (place.folder / "trials" / "t" / "result.json").is_file()
        place.send()
    assert bucket.keys(f"studies/{tmp_path.name}") == ["study.json", "trials/t/result.json"]


def test_no_study_there_is_one_message(uri: str) -> None:
    with pytest.raises(ResultsError, match="holds no study"), places.read(uri):
        pass


def test_files_are_named_as_their_user_knows_them() -> None:
    place = places.Place(Path("/copy"), "s3://key:secret@bucket/one/?region=x")
    assert place.shown(Path("/copy/a/report.html")) == "s3://key:***@bucket/one/a/report.html?region=x"
    assert place.shown() == "s3://key:***@bucket/one/?region=x"
    assert place.shown(Path("/elsewhere")) == "/elsewhere"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("trials/t/utterances.parquet", 0),
        ("trials/t/checkpoints/checkpoint-1/model.safetensors", 0),
        ("trials/t/checkpoints/checkpoint-1/sealed.json", 1),
        ("stores/s/store.json", 1),
        ("trials/t/result.json", 2),
        ("trials/t/failure.json", 2),
    ],
)
def test_what_says_that_others_are_whole_is_sent_behind_them(name: str, place: int) -> None:
    assert sending.rank(name) == place
