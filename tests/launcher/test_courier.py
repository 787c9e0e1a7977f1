"""Trials of a study on servers of S3 and of Google Cloud Storage, trained by the real training function: what is there at any moment is whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gcs
import pytest
import s3
import trials

from launcher import attempts, copies, courier, leftovers, sending
from launcher.mirror import Mirror
from launcher.retries import StorageError
from launcher.sending import Sender
from trainables import attempts as worker_attempts
from trainables import checkpoints

NAME = "mean-s1-00000000"


@pytest.fixture(scope="module")
def bucket() -> Iterator[s3.Bucket]:
    with s3.bucket() as made:
        yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trials.small_store(tmp_path_factory)


class Node:
    """A machine with a copy of nothing."""

    def __init__(
        self, bucket: s3.Bucket | gcs.Bucket, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.bucket, self.under, self.tmp_path, self.patch = bucket, f"studies/{tmp_path.name}", tmp_path, monkeypatch
        out = tmp_path / "out"
        self.job: dict[str, Any] = {
            **trials.job(store, out / "trials" / NAME, {"save_total_limit": 2}),
            "out": str(out), "uri": bucket.uri(self.under), "stop_file": str(out / ".stop-1"), "audits": str(out / "audits"),
            "launch": "one",
        }  # fmt: skip
        self.moves("first")

    def moves(self, name: str) -> None:
        """Go on on another machine."""
        self.patch.setenv("XDG_CACHE_HOME", str(self.tmp_path / name))

    def keys(self) -> list[str]:
        return self.bucket.keys(f"{self.under}/trials/{NAME}")

    def json(self, name: str) -> dict[str, Any]:
        return json.loads(self.bucket.read(f"{self.under}/trials/{NAME}/{name}"))

    def fetched(self, name: str) -> Path:
        """Copy all that is there of the trial."""
        Mirror(self.job["uri"], self.tmp_path / name).pull()
        return self.tmp_path / name / "trials" / NAME


@pytest.fixture
def node(bucket: s3.Bucket, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(bucket, store, tmp_path, monkeypatch)


@pytest.fixture(params=[s3, pytest.param(gcs, marks=pytest.mark.slow)], ids=["s3", "gs"])
def anywhere(
    request: pytest.FixtureRequest, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Node]:
    """A node for a study in a bucket of one kind or the other."""
    with request.param.bucket() as made:
        yield Node(made, store, tmp_path, monkeypatch)


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


def test_wherever_sending_breaks_off_what_is_there_is_whole_and_can_be_gone_on_from(
    anywhere: Node, monkeypatch
) -> None:
    """Every number of uploads after which the process may have been killed, while it sends checkpoints and the end."""
    with courier.at_work(courier.named(anywhere.job), 0) as near:
        trials.interrupt(near)
        Path(near["folder"], "result.json").write_text("{}")  # as if it had ended since
        folder, all_sent = Path(near["folder"]), Mirror._put
        sent: list[str] = []

        def put(mirror: Mirror, name: str, blocks: Any) -> None:
            sent.append(name)
            all_sent(mirror, name, blocks)
            there = set(anywhere.keys())
            # without it, the next attempt would count as the first
            assert "attempts.json" in there or not any("checkpoints" in name for name in there)
            for seal in [name for name in there if name.endswith("sealed.json")]:
                whole = json.loads((folder / seal).read_text())["files"]
                assert {f"{seal.rpartition('/')[0]}/{file}" for file in whole} <= there
            if "result.json" in there:
                wanted = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
                assert {name for name in wanted if not name.startswith(".")} <= there

        monkeypatch.setattr(Mirror, "_put", put)
    assert sent[-1].endswith("result.json")
    assert sum(name.endswith("sealed.json") for name in sent) >= 1


def test_a_checkpoint_that_is_not_sealed_is_not_sent(node: Node) -> None:
    with courier.at_work(courier.named(node.job), 0) as near:
        torn = Path(near["folder"]) / "checkpoints" / "checkpoint-9"
        torn.mkdir(parents=True)
        (torn / "model.safetensors").write_bytes(b"half")
    assert node.keys() == []


def test_a_checkpoint_that_training_drops_while_it_is_sent_comes_there_whole(node: Node, monkeypatch) -> None:
    with courier.at_work(courier.named(node.job), 0) as near:
        trials.interrupt(near)
        checkpoints, all_sent = Path(near["folder"]) / "checkpoints", Mirror._put
        names = {path.parent.name for path in checkpoints.glob("*/sealed.json")}
        assert names

        def put(mirror: Mirror, name: str, blocks: Any) -> None:
            shutil.rmtree(checkpoints, ignore_errors=True)
            all_sent(mirror, name, blocks)

        monkeypatch.setattr(Mirror, "_put", put)
    for sealed in names:
        whole = node.json(f"checkpoints/{sealed}/sealed.json")["files"]
        assert {f"checkpoints/{sealed}/{name}" for name in whole} <= set(node.keys())


def test_a_checkpoint_that_is_dropped_before_it_can_be_held_is_left_out(node: Node, monkeypatch) -> None:
    with courier.at_work(courier.named(node.job), 0) as near:
        trials.interrupt(near)
        linked = os.link

        def link(source: Path, target: Path) -> None:
            linked(source, target)
            shutil.rmtree(source.parent, ignore_errors=True)

        monkeypatch.setattr("launcher.sending.os.link", link)
    assert not [name for name in node.keys() if "checkpoints" in name]


def test_an_attempt_that_was_given_up_for_dead_sends_nothing_any_more(node: Node) -> None:
    attempts = f"{node.under}/trials/{NAME}/attempts.json"
    working = courier.at_work(courier.named(node.job), 0)
    trials.interrupt(working.__enter__())
    node.bucket.write(attempts, b'{"attempts": 2}')  # another attempt, while this one was cut off
    with pytest.raises(sending.Superseded):
        working.__exit__(None, None, None)
    assert node.keys() == ["attempts.json"]


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


def test_what_a_killed_attempt_left_on_a_node_is_removed_by_the_next(node: Node) -> None:
    base = courier._base(node.job)
    (base / "dead-1").mkdir(parents=True)
    (base / "dead-1.lock").touch()
    with courier.at_work(courier.named(node.job), 0):
        assert not (base / "dead-1").exists()


def killed(node: Node, finishes: bool) -> Path:
    """Train where nothing is sent but the beginning, and end as a process does that gets SIGKILL; return the folder."""
    launched = {"launches": [{"started": "2026-01-01"}]}
    node.bucket.write(f"{node.under}/trials/{NAME}/trial.json", json.dumps(launched).encode())
    with pytest.MonkeyPatch.context() as cut:
        cut.setattr(Sender, "turn", lambda self: None)
        cut.setattr(Sender, "last", lambda self: None)
        cut.setattr("launcher.courier.shutil.rmtree", lambda *_, **__: None)
        with courier.at_work(courier.named(node.job), 0) as near:
            (trials.run if finishes else trials.interrupt)(near)
    folder = Path(near["out"])
    folder.with_name(f"{folder.name}.lock").touch()
    assert node.keys() == ["trial.json"]
    return folder


@pytest.mark.parametrize("finishes", [True, False])
def test_what_an_attempt_had_not_sent_when_it_was_killed_is_sent_by_the_next(node: Node, finishes: bool) -> None:
    folder = killed(node, finishes)
    with courier.at_work(courier.named(node.job), 0) as near:
        assert not folder.exists()
        assert ("result.json" in node.keys()) is finishes
        assert finishes or any(name.endswith("/sealed.json") for name in node.keys())
        assert trials.run(near)["resumed"] or finishes


@pytest.mark.usefixtures("impatient")
def test_a_trial_does_not_begin_again_where_its_end_cannot_be_sent_yet(node: Node) -> None:
    folder = killed(node, finishes=True)

    def gone(*_: object) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION")

    with pytest.MonkeyPatch.context() as cut:
        cut.setattr(Mirror, "_put", gone)
        with pytest.raises(StorageError, match="what an earlier attempt made stays in"):
            courier.at_work(courier.named(node.job), 0).__enter__()
    assert (folder / f"trials/{NAME}/result.json").is_file()
    with courier.at_work(courier.named(node.job), 0):
        assert "result.json" in node.keys()


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


def test_an_attempt_that_was_given_up_for_dead_while_it_sends_does_not_seal_and_removes_nothing(
    node: Node, monkeypatch
) -> None:
    """The weights of a checkpoint may take minutes; another attempt begins meanwhile."""
    attempts = f"{node.under}/trials/{NAME}/attempts.json"
    node.bucket.write(f"{node.under}/trials/{NAME}/checkpoints/checkpoint-1/sealed.json", b'{"files": []}')
    working = courier.at_work(courier.named(node.job), 0)
    near = working.__enter__()
    trials.interrupt(near)
    shutil.rmtree(Path(near["folder"]) / "checkpoints" / "checkpoint-1", ignore_errors=True)
    all_sent = Mirror._put

    def put(mirror: Mirror, name: str, blocks: Any) -> None:
        all_sent(mirror, name, blocks)
        if name.endswith(".safetensors"):
            node.bucket.write(attempts, b'{"attempts": 2}')

    monkeypatch.setattr(Mirror, "_put", put)
    with pytest.raises(sending.Superseded):
        working.__exit__(None, None, None)
    seals = [name for name in node.keys() if name.endswith("sealed.json")]
    assert seals == ["checkpoints/checkpoint-1/sealed.json"]
    assert [name for name in node.keys() if name.endswith(".safetensors")]


def test_where_the_file_system_has_no_links_checkpoints_are_held_by_copies(node: Node, monkeypatch) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("launcher.sending.os.link", refuses)
    with courier.at_work(courier.named(node.job), 0) as near:
        trials.interrupt(near)
    assert [name for name in node.keys() if name.endswith("sealed.json")]


def test_what_cannot_be_held_is_said_in_one_message_that_names_what_is_left(node: Node, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    working = courier.at_work(courier.named(node.job), 0)
    trials.interrupt(working.__enter__())
    monkeypatch.setattr("launcher.sending._hold", full)
    with pytest.raises(StorageError, match="No space left on device; what this attempt made stays in"):
        working.__exit__(None, None, None)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.retries._PAUSES_SECONDS", ())
    monkeypatch.setattr("launcher.retries._LONG_SECONDS", 0.0)


def left_unsent(node: Node, finishes: bool, **trial_file: object) -> Path:
    """Train where the network goes before anything was sent but the beginning of the attempt; return the folder."""

    def gone(*_: object) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION")

    launched = {"launches": [{"started": "2026-01-01"}], **trial_file}
    node.bucket.write(f"{node.under}/trials/{NAME}/trial.json", json.dumps(launched).encode())
    working = courier.at_work(courier.named(node.job), 0)
    near = working.__enter__()
    with pytest.MonkeyPatch.context() as cut:
        cut.setattr(Mirror, "_put", gone)
        (trials.run if finishes else trials.interrupt)(near)
        with pytest.raises(StorageError, match="what this attempt made stays in"):
            working.__exit__(None, None, None)
    assert node.keys() == ["trial.json"]
    return Path(near["out"])


@pytest.mark.usefixtures("impatient")
def test_what_an_attempt_could_not_send_the_next_one_on_its_machine_sends_and_goes_on_from(node: Node) -> None:
    folder = left_unsent(node, finishes=False)
    node.bucket.write(  # the next launch, and what it says of the attempt that it lost
        f"{node.under}/trials/{NAME}/trial.json",
        b'{"launches": [{"started": "2026-01-01"}, {"started": "2026-01-02"}]}',
    )
    lost = {"attempt": 1, "launch": "one", "class": "worker lost", "error": "no network", "by": "launcher"}
    told = {**json.loads((folder / f"trials/{NAME}/attempts.json").read_text()), "open": False, "ended": [lost]}
    node.bucket.write(f"{node.under}/trials/{NAME}/attempts.json", json.dumps(told).encode())
    node.job["launch"] = "two"
    with courier.at_work(courier.named(node.job), 0) as near:
        assert not folder.exists()
        assert node.json("attempts.json") == told
        assert len(node.json("trial.json")["launches"]) == 2
        assert trials.run(near)["resumed"]


@pytest.mark.usefixtures("impatient")
def test_a_trial_that_ended_and_could_not_be_sent_is_done_for_the_next_attempt_and_the_next_launch(node: Node) -> None:
    folder = left_unsent(node, finishes=True)
    done = (folder / f"trials/{NAME}/result.json").read_bytes()
    leftovers.see_to(node.job["uri"], copies.work_folder(node.job["uri"]))  # as a launch on this machine does
    assert node.bucket.read(f"{node.under}/trials/{NAME}/result.json") == done
    assert not folder.exists()
    with courier.at_work(courier.named(node.job), 0) as near:
        trials.run(near)
    assert node.bucket.read(f"{node.under}/trials/{NAME}/result.json") == done


@pytest.mark.usefixtures("impatient")
def test_a_launch_that_is_forgotten_because_nothing_of_it_came_through_keeps_what_it_finished(node: Node) -> None:
    """The next launch, on another machine, sees no attempt of the first: its trial.json tells of itself alone."""
    folder = left_unsent(node, finishes=True, folder_id="first")
    done = (folder / f"trials/{NAME}/result.json").read_bytes()
    forgotten = {"folder_id": "first", "launches": [{"started": "2026-01-02"}]}
    node.bucket.write(f"{node.under}/trials/{NAME}/trial.json", json.dumps(forgotten).encode())
    leftovers.see_to(node.job["uri"], copies.work_folder(node.job["uri"]))
    assert node.bucket.read(f"{node.under}/trials/{NAME}/result.json") == done
    assert node.json("trial.json") == forgotten
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_of_two_attempts_with_one_number_that_know_nothing_of_each_other_the_one_that_is_known_there_counts(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = left_unsent(node, finishes=True, folder_id="first")
    node.moves("second")
    node.job["launch"] = "two"
    with courier.at_work(courier.named(node.job), 0) as near:
        trials.interrupt(near)  # from the start: nobody told it of the first
    assert node.json("attempts.json")["attempts"] == 1
    kept = {name: node.bucket.read(f"{node.under}/trials/{NAME}/{name}") for name in node.keys()}
    node.moves("first")
    leftovers.see_to(node.job["uri"], copies.work_folder(node.job["uri"]))
    assert {name: node.bucket.read(f"{node.under}/trials/{NAME}/{name}") for name in node.keys()} == kept
    assert not folder.exists()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("began", "there"), [
    ({}, ("attempts.json", b'{"attempts": 2}')),  # another attempt
    ({}, ("trial.json", b'{"launches": [{"started": "2026-01-02"}]}')),  # --fresh, of an older version
    ({"folder_id": "one"}, ("trial.json", b'{"folder_id": "two", "launches": []}')),  # --fresh
    ({"folder_id": "one"}, ("trial.json", b'{"launches": [{"started": "2026-01-01"}]}')),  # --fresh by an older version
])  # fmt: skip
def test_what_nobody_wants_any_more_is_not_sent_later(
    began: dict[str, str], there: tuple[str, bytes], node: Node
) -> None:
    folder = left_unsent(node, finishes=True, **began)
    node.bucket.write(f"{node.under}/trials/{NAME}/{there[0]}", there[1])
    leftovers.see_to(node.job["uri"], copies.work_folder(node.job["uri"]))
    assert "result.json" not in node.keys()
    assert not folder.exists()


@pytest.mark.usefixtures("impatient")
def test_what_still_cannot_be_sent_stays(node: Node, monkeypatch) -> None:
    folder = left_unsent(node, finishes=True)

    def gone(*_: object) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION")

    with pytest.MonkeyPatch.context() as cut:
        cut.setattr(Mirror, "_put", gone)
        leftovers.see_to(node.job["uri"], copies.work_folder(node.job["uri"]))
    assert (folder / f"trials/{NAME}/result.json").is_file()
    leftovers.see_to(node.job["uri"], copies.work_folder(node.job["uri"]))
    assert "result.json" in node.keys()


OLD_ENDS = ("failure.json", "pruned.json", "drain.json")


def ended_before(node: Node) -> None:
    """Leave there what an attempt of an earlier launch ended with."""
    told = {"attempts": 1, "open": False, "launch": "old", "name": "a", "ended": []}
    node.bucket.write(f"{node.under}/trials/{NAME}/attempts.json", json.dumps(told).encode())
    for name in OLD_ENDS:
        node.bucket.write(f"{node.under}/trials/{NAME}/{name}", b"{}")


def test_wherever_sending_breaks_off_an_attempt_that_begins_does_not_show_the_end_of_the_one_before(
    anywhere: Node, monkeypatch
) -> None:
    """Every request behind which the worker may have been killed: the launch tries again, and no notice excuses it."""
    ended_before(anywhere)
    verdicts: list[tuple[int, attempts.Verdict, list[str]]] = []

    def seen() -> None:
        folder = anywhere.fetched(f"seen-{len(verdicts)}")
        begun = json.loads((folder / "attempts.json").read_text())["attempts"]
        verdict = attempts.settle(folder, "new", RuntimeError("worker died"), before=1)
        ended = json.loads((folder / "attempts.json").read_text())["ended"]
        verdicts.append((begun, verdict, [entry["class"] for entry in ended]))

    all_sent, all_removed = Mirror._put, Mirror.remove

    def put(mirror: Mirror, name: str, blocks: Any) -> None:
        all_sent(mirror, name, blocks)
        seen()

    def remove(mirror: Mirror, names: list[str]) -> None:
        all_removed(mirror, names)
        seen()

    monkeypatch.setattr(courier, "_TURN_SECONDS", 600.0)
    with courier.at_work(courier.named(anywhere.job), 0) as near:
        worker_attempts.begin(Path(near["folder"]), "new", near["attempt_name"])
        Path(near["folder"], "initial.parquet").write_bytes(b"x")
        monkeypatch.setattr(Mirror, "_put", put)
        monkeypatch.setattr(Mirror, "remove", remove)
    assert verdicts == [
        *[(1, attempts.Verdict.AGAIN, [attempts.LOST])] * len(OLD_ENDS),
        *[(2, attempts.Verdict.AGAIN, [attempts.LOST])] * 2,
    ]


def test_an_attempt_behind_which_another_has_begun_removes_no_end(node: Node, monkeypatch) -> None:
    ended_before(node)
    monkeypatch.setattr(courier, "_TURN_SECONDS", 600.0)
    working = courier.at_work(courier.named(node.job), 0)
    near = working.__enter__()
    worker_attempts.begin(Path(near["folder"]), "new", near["attempt_name"])
    node.bucket.write(f"{node.under}/trials/{NAME}/attempts.json", b'{"attempts": 3}')
    with pytest.raises(sending.Superseded):
        working.__exit__(None, None, None)
    assert node.keys() == sorted(("attempts.json", *OLD_ENDS))


class Training:
    """Seals checkpoints and drops older ones as training does, while its courier works."""

    def __init__(self, node: Node) -> None:
        self.node, self.update = node, 0
        self.mirror = Mirror(node.job["uri"], node.tmp_path / "work")
        near = courier._moved(node.job, self.mirror.folder)
        self.folder = Path(near["folder"])
        worker_attempts.begin(self.folder, "one", "a")
        self.mirror.keep(self.mirror.folder / sending.HERE)
        self.sender = Sender(NAME, near, self.mirror)

    def saves(self) -> None:
        self.update += 10
        path = self.folder / "checkpoints" / f"checkpoint-{self.update}"
        path.mkdir(parents=True)
        (path / "model.safetensors").write_bytes(b"x" * self.update)
        checkpoints.seal(path.parent, self.update, {})
        checkpoints.keep_newest(path.parent, 1)

    def ends(self) -> None:
        (self.folder / "result.json").write_text("{}")
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)

    def sealed_there(self) -> list[int]:
        """Return the updates of the checkpoints that could be gone on from."""
        keys = set(self.node.keys())
        seals = [name for name in keys if name.endswith("/sealed.json")]
        for seal in seals:
            assert {f"{seal.rpartition('/')[0]}/{name}" for name in self.node.json(seal)["files"]} <= keys
        return sorted(int(seal.split("/")[1].rpartition("-")[2]) for seal in seals)


def before(work: Callable[..., Any], first: Callable[[], None]) -> Callable[..., Any]:
    """Have something happen before each call."""

    def both(*args: Any) -> Any:
        first()
        return work(*args)

    return both


@pytest.mark.parametrize(
    ("owner", "name", "most"),
    [(sending, "_hold", 1), (Mirror, "gone", 4), (Mirror, "_put", 1)],
    ids=["dropped before it is held", "sealed behind the look", "saved faster than sent"],
)
def test_however_quickly_checkpoints_follow_there_is_always_one_to_go_on_from(
    node: Node, monkeypatch, owner: Any, name: str, most: int
) -> None:
    training = Training(node)
    training.saves()
    training.sender.turn()
    assert training.sealed_there() == [10]
    with monkeypatch.context() as quick:
        quick.setattr(owner, name, before(getattr(owner, name), training.saves))
        for _ in range(3):
            training.sender.turn()
            assert 1 <= len(training.sealed_there()) <= most
            training.saves()
    training.sender.turn()
    training.sender.turn()
    assert training.sealed_there() == [training.update]


def test_a_trial_that_ends_between_two_looks_keeps_its_checkpoint_there_until_its_result_is_there(
    node: Node, monkeypatch
) -> None:
    training = Training(node)
    training.saves()
    training.sender.turn()
    with monkeypatch.context() as quick:
        quick.setattr(Mirror, "gone", before(Mirror.gone, training.ends))
        training.sender.turn()
    assert "result.json" not in node.keys()
    assert training.sealed_there() == [10]
    training.sender.turn()
    assert sorted(node.keys()) == ["attempts.json", "result.json"]


def at_the_first_lock(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Have something happen between the opening of a lock and its being held, once."""
    locked, todo = fcntl.flock, [work]

    def flock(*args: Any) -> None:
        if todo:
            todo.pop()()
        locked(*args)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_the_lock_of_an_attempt_that_begins_is_not_lost_to_a_sweep(node: Node, monkeypatch) -> None:
    base = courier._base(node.job)
    with monkeypatch.context() as racing:
        at_the_first_lock(
            racing, lambda: leftovers.see_to(node.job["uri"], base)
        )  # another trial of this machine begins
        working = courier.at_work(courier.named(node.job), 0)
        folder = Path(working.__enter__()["out"])
    assert folder.with_name(f"{folder.name}{leftovers.LOCK}").is_file()
    leftovers.see_to(node.job["uri"], base)
    assert folder.is_dir()
    working.__exit__(None, None, None)
    assert list(base.glob(f"*{leftovers.LOCK}")) == []


def test_a_sweep_that_comes_second_does_not_take_the_lock_of_an_attempt_that_began_behind_the_first(
    node: Node, monkeypatch
) -> None:
    base = courier._base(node.job)
    base.mkdir(parents=True)
    lock = base / f"{NAME}-0{leftovers.LOCK}"
    lock.touch()

    def another() -> None:
        leftovers.see_to(node.job["uri"], base)
        lock.touch()  # of the attempt that found its lock swept

    at_the_first_lock(monkeypatch, another)
    leftovers.see_to(node.job["uri"], base)
    assert lock.is_file()
