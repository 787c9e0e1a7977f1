"""What is sent of a trial is whole at any moment, and tells the truth to whoever goes on with it: on a real S3 server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trials
from bucket_nodes import NAME, Node

from launcher import attempts, courier, sending
from launcher.mirror import Mirror
from launcher.retries import StorageError
from launcher.sending import Sender
from trainables import attempts as worker_attempts
from trainables import checkpoints

OLD_ENDS = ("failure.json", "pruned.json", "drain.json")


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
