"""Trials of a study on servers of S3 and of Google Cloud Storage, trained by the real training function: what is there at any moment is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import s3
import trials
from bucket_nodes import NAME, Node

from launcher import courier
from launcher.mirror import Mirror
from launcher.retries import StorageError
from launcher.sending import Sender


def test_a_local_trial_is_left_where_it_is(store: Path, tmp_path: Path) -> None:
    job = trials.job(store, tmp_path)
    with courier.at_work(courier.named(job), 0) as near:
        assert near == job
    with courier.beside(job) as (near, place):
        assert near == job
        assert place.uri is None


def test_a_trial_goes_on_on_another_machine_and_ends_as_if_undisturbed(
    anywhere: Node, store: Path, tmp_path: Path
) -> None:
    with courier.at_work(courier.named(anywhere.job), 0) as near:
        trials.interrupt(near)
    assert any(name.endswith("sealed.json") for name in anywhere.keys())
    anywhere.moves("second")
    with courier.at_work(courier.named(anywhere.job), 0) as near:
        result = trials.run(near)
    assert result["resumed"]
    assert [name for name in anywhere.keys() if "checkpoints" in name] == []
    undisturbed = trials.job(store, tmp_path / "undisturbed", {"save_total_limit": 2})
    trials.run(undisturbed)
    there = anywhere.fetched("seen")
    for table in ("history", "utterances"):
        assert trials.table(there, table) == trials.table(tmp_path / "undisturbed", table)
    assert {path.name for path in (there / "model").iterdir()} >= {"model.safetensors", "config.json"}
    assert [path.name for path in (tmp_path / "second").rglob("*") if path.name.startswith(f"{NAME}-")] == []


def test_why_a_trial_failed_is_sent(node: Node) -> None:
    node.job["sections"]["Model Configuration"]["reduction"] = "no such reduction"
    with courier.at_work(courier.named(node.job), 0) as near:
        trials.run(near, "failed")
    assert "no such reduction" in node.json("failure.json")["error"]
    assert node.json("attempts.json")["ended"][0]["error"] == node.json("failure.json")["error"]


def test_wishes_reach_the_worker(node: Node, monkeypatch) -> None:
    with courier.at_work(courier.named(node.job), 0) as near:
        bringing = Sender(NAME, near, Mirror(node.job["uri"], Path(near["out"])))
        bringing.turn()
        assert not Path(near["stop_file"]).exists()
        node.bucket.write(f"{node.under}/.stop-1", b"")
        node.bucket.write(f"{node.under}/trials/{NAME}/prune", b"")
        bringing.turn()
        assert Path(near["stop_file"]).exists()
        assert (Path(near["folder"]) / "prune").exists()


def test_the_driver_sees_what_the_worker_sent_and_sends_what_it_decides(node: Node) -> None:
    with courier.beside(node.job) as (near, place):
        with courier.at_work(courier.named(node.job), 0) as working:
            trials.interrupt(working)
        courier.refresh(near, place)
        folder = Path(near["folder"])
        assert json.loads((folder / "attempts.json").read_text())["attempts"] == 1
        assert not list(folder.rglob("*.safetensors"))  # weights are not its business
        (folder / "failure.json").write_text("{}")
        place.send()
    assert "failure.json" in node.keys()


def test_workers_of_one_node_share_what_the_first_of_them_copied(node: Node, bucket: s3.Bucket) -> None:
    bucket.write(f"{node.under}/trials/{NAME}/initial.parquet", b"x")
    job = courier.named(node.job)
    with courier.at_work(job, 1) as one, courier.at_work(job, 0) as other:
        assert one == other
        assert (Path(one["folder"]) / "initial.parquet").read_bytes() == b"x"


def test_what_a_worker_removes_is_removed_there_whichever_worker_copied_it(node: Node) -> None:
    node.bucket.write(f"{node.under}/trials/{NAME}/failure.json", b"{}")
    node.bucket.write(f"{node.under}/audits/some/audit.json", b"{}")
    job = courier.named(node.job)
    with courier.at_work(job, 1), courier.at_work(job, 0) as near:
        (Path(near["folder"]) / "failure.json").unlink()
        (Path(near["out"]) / "audits/some/audit.json").unlink()
    assert "failure.json" not in node.keys()
    assert node.bucket.keys(f"{node.under}/audits") == ["some/audit.json"]  # other trials have it too


def test_a_folder_that_is_emptied_under_a_worker_empties_nothing_there(node: Node) -> None:
    with courier.at_work(courier.named(node.job), 0) as near:
        trials.interrupt(near)
    kept = node.keys()
    working = courier.at_work(courier.named(node.job), 0)
    shutil.rmtree(working.__enter__()["out"])
    with pytest.raises(StorageError, match="was emptied by somebody else"):
        working.__exit__(None, None, None)
    assert node.keys() == kept


def test_data_prepared_inside_of_the_study_are_copied_once_per_node(node: Node, store: Path, tmp_path: Path) -> None:
    inside = tmp_path / "out" / "stores"
    mirror = Mirror(node.job["uri"], tmp_path / "out")
    inside.mkdir(parents=True)
    (inside / store.name).symlink_to(store)
    mirror.push([f"stores/{store.name}/{path.relative_to(store)}" for path in store.rglob("*") if path.is_file()])
    (inside / store.name).unlink()  # the worker is on another machine
    node.job["store"] = str(inside / store.name)
    with courier.at_work(courier.named(node.job), 0) as near:
        assert trials.run(near)["status"] == "done"
    assert Path(near["store"]).is_relative_to(courier._base(node.job))
