"""What attempts could not send stays on their machine until somebody sends it, once, and only where it is wanted still."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trials
from bucket_nodes import NAME, Node

from launcher import copies, courier, leftovers
from launcher.mirror import Mirror
from launcher.retries import StorageError
from launcher.sending import Sender


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
