"""What a node says of itself, and whether that is good enough for a launch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray.train import WorkerGroupError

from launcher import fitness, guard, node, preflight, retries
from launcher.findings import FAULT, OK, WARNING, Finding

ASKED: dict[str, Any] = {
    "out": "/shared/study",
    "key": ".preflight-1",
    "store": "/shared/store",
    "fingerprint": "abc",
    "secret": "s",
}
FACTS: dict[str, Any] = {
    "host": "n1", "python": "3.11.2", "packages": {"lossgrid": "0.1.0", "ray": "2.60.0", "torch": "2.13.0+cu130", "numpy": "2.4.6"},
    "code": "one", "commit": "a" * 40, "gpu": None, "out": {"read": "same", "answer": "x", "content": "y", "seen": True},
    "store": {"fingerprint": "abc"}, "disk": {"out": 1e12, "tmp": 1e12, "shm": 1e10}, "time": 0.0,
}  # fmt: skip
LAUNCH: dict[str, Any] = {**FACTS, "python": "3.11.7", "packages": {**FACTS["packages"], "torch": "2.13.0+cpu"}}


def judged(gpus: float = 0, skew: float = 0.0, **other: Any) -> dict[str, str]:
    """Judge a node that differs so; return the level of each finding by what it is about."""
    facts = {**FACTS, **other}
    return {one.about: one.level for one in fitness.judge(facts, LAUNCH, ASKED, gpus=gpus, skew=skew)}


def test_a_node_with_another_build_of_the_same_version_and_another_patch_of_python_is_fit() -> None:
    assert judged() == {"node": OK}


@pytest.mark.parametrize(
    ("other", "about", "level"),
    [
        ({"code": "two"}, "code", FAULT),
        ({"code": None}, "code", FAULT),
        ({"python": "3.12.1"}, "python", FAULT),
        ({"packages": {**FACTS["packages"], "torch": "2.12.0"}}, "packages", FAULT),
        ({"packages": {name: FACTS["packages"][name] for name in ("ray", "numpy")}}, "packages", FAULT),
        ({"packages": {**FACTS["packages"], "numpy": "2.0.0"}}, "packages", WARNING),
        ({"out": {"read": "missing"}}, "out", FAULT),
        ({"out": {"read": "other"}}, "out", FAULT),
        ({"out": {"read": "PermissionError: no"}}, "out", FAULT),
        ({"out": {"read": "same", "failed": "OSError: read-only"}}, "out", FAULT),
        ({"out": {**FACTS["out"], "seen": False}}, "out", FAULT),
        ({"store": {"failed": "FileNotFoundError: store.json"}}, "data", FAULT),
        ({"store": {"fingerprint": "other"}}, "data", FAULT),
        ({"disk": {"out": 1e9}}, "disk", WARNING),
    ],
)
def test_what_differs_is_told_and_what_would_change_results_is_refused(
    other: dict[str, Any], about: str, level: str
) -> None:
    assert judged(**other) == {about: level}


@pytest.mark.parametrize(("skew", "level"), [(1.9, None), (-3.0, WARNING), (61.0, FAULT), (-61.0, FAULT)])
def test_a_clock_may_be_off_by_two_seconds_and_must_not_be_by_a_minute(skew: float, level: str | None) -> None:
    assert judged(skew=skew).get("clock") == level


@pytest.mark.parametrize(
    ("sees", "gpus", "is_fit"), [(4, 4, True), (0, 4, False), (2, 4, False), (0, 0.25, True), (1, 0.25, True)]
)
def test_torch_must_see_the_gpus_that_ray_counts(sees: int, gpus: float, is_fit: bool) -> None:
    seen = {"sees": sees, "build": None, "driver": "A10G, 580.1"}
    assert ("gpu" not in judged(gpus=gpus, gpu=seen)) == is_fit


ADDRESS = "s3://AKIAIOSFODNN7:wJalrXUtnFEMI@bucket/studies/first"
BAD = (
    {"read": "missing"},
    {"read": f"OSError: {ADDRESS} is away"},
    {"read": "same", "failed": f"OSError: {ADDRESS} is full"},
    {"read": "same", "seen": False},
)


@pytest.mark.parametrize("out", BAD)
def test_a_key_in_the_address_of_the_study_is_in_no_finding(out: dict[str, Any]) -> None:
    (only,) = fitness.judge({**FACTS, "out": out}, LAUNCH, {**ASKED, "out": ADDRESS}, gpus=0)
    assert only.level == FAULT
    assert "s3://AKIAIOSFODNN7:***@bucket/studies/first" in only.text
    assert "wJalrXUtnFEMI" not in only.text + only.advice


def test_what_somebody_else_wrote_of_a_node_is_told_and_kept_without_its_keys(tmp_path: Path) -> None:
    """Ray's own error, what a trial's process said, and a fact of a node with other code."""
    found = [Finding(FAULT, "node", f"it cannot be looked at: {ADDRESS}", f"look at {ADDRESS}")]
    one = preflight.Seen(
        preflight.Node("a" * 56, "w1", "10.0.0.2", {}), found, {"gpu": {"failed": f"OSError: {ADDRESS}"}}
    )
    told = [*guard.lines(one), guard._why(one)]
    preflight.write(tmp_path, FACTS, [one])
    assert "wJalrXUtnFEMI" not in "".join(told) + (tmp_path / "nodes.json").read_text()
    assert all("s3://AKIAIOSFODNN7:***@bucket" in line for line in told)


def test_an_error_is_masked_before_it_is_cut() -> None:
    told = node._first_line(OSError(f"{'x' * 255} {ADDRESS}"))
    assert len(told) == 300
    assert "wJalr" not in told


def test_an_error_of_the_storage_that_may_pass_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".preflight-1").mkdir()  # an error of a file system that is met by its URI, as an outage is one
    monkeypatch.setattr(retries, "_PAUSES_SECONDS", ())
    told = node.meet(f"file://{tmp_path}", ".preflight-1", "s")
    assert told["read"].startswith("StorageError: ")
    assert told["may_pass"]


@pytest.mark.parametrize(
    ("other", "command"),
    [
        ({"gpu": {"sees": 0, "build": None, "driver": None}}, "nvidia-smi"),
        ({"gpu": {"sees": 0, "build": None, "driver": "A10G, 580.1"}}, "pip install --force-reinstall 'torch==2.13.0'"),
        ({"out": {"read": "missing"}}, "df /shared/study"),
        ({"out": {"read": "same", "failed": "OSError: no"}}, "ls -ld /shared/study"),
        ({"store": {"failed": "FileNotFoundError"}}, "ls -l /shared/store/store.json"),
        ({"disk": {"out": 1e9}}, "df -h /shared/study"),
        ({"disk": {"shm": 1e6}}, "df -h /dev/shm"),
    ],
)
def test_a_finding_says_the_command_that_shows_or_mends_it(other: dict[str, Any], command: str) -> None:
    (only,) = fitness.judge({**FACTS, **other}, LAUNCH, ASKED, gpus=4)
    assert command in only.advice


def test_a_node_without_the_data_of_a_folder_that_it_does_not_share_is_told_once() -> None:
    facts = {**FACTS, "out": {"read": "missing"}, "store": {"failed": "FileNotFoundError"}}
    asked = {**ASKED, "store": "/shared/study/stores/one"}
    (only,) = fitness.judge(facts, LAUNCH, asked, gpus=0)
    assert only.about == "out"


def test_a_folder_is_the_launches_only_with_what_the_launch_wrote(tmp_path: Path) -> None:
    (tmp_path / ".preflight-1").write_text("secret")
    told = node.meet(str(tmp_path), ".preflight-1", "secret")
    assert (tmp_path / told["answer"]).read_text() == told["content"]
    assert node.meet(str(tmp_path), ".preflight-1", "another") == {"read": "other"}
    assert node.meet(str(tmp_path / "none"), ".preflight-1", "secret") == {"read": "missing"}


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".preflight-1").write_text("secret")
    monkeypatch.setattr(node.os, "fsync", _full)
    assert node.meet(str(tmp_path), ".preflight-1", "secret") == {"read": "same", "failed": "OSError: no space"}


def _full(number: int) -> None:
    raise OSError("no space")


def test_a_folder_of_another_file_system_is_met_by_its_uri(tmp_path: Path) -> None:
    (tmp_path / ".preflight-1").write_text("secret")
    told = node.meet(f"file://{tmp_path}", ".preflight-1", "secret")
    assert node.read(f"file://{tmp_path}", told["answer"]) == told["content"]


def test_a_changed_line_of_code_is_other_code(tmp_path: Path) -> None:
    for package in ("launcher", "trainables"):
        (tmp_path / package / "part").mkdir(parents=True)
        (tmp_path / package / "part" / "a.py").write_text("x = 1\n")
    before = node.code(tmp_path)
    (tmp_path / "trainables" / "data.bin").write_bytes(b"no code")
    assert node.code(tmp_path) == before
    (tmp_path / "trainables" / "part" / "a.py").write_text("x = 2\n")
    assert node.code(tmp_path) != before


def test_what_a_node_says_fits_the_launch_on_the_same_machine(tmp_path: Path) -> None:
    (tmp_path / ".preflight-1").write_text("secret")
    (tmp_path / "store.json").write_text(json.dumps({"fingerprint": "abc"}))
    asked = {"out": str(tmp_path), "key": ".preflight-1", "secret": "secret", "answers": False, "store": str(tmp_path)}
    facts = node.look(asked, 0, works=True)
    found = fitness.judge(facts, facts, {**asked, "fingerprint": "abc"}, gpus=0)
    assert [one for one in found if one.level == FAULT] == []
    assert json.loads(json.dumps(facts)) == facts


def test_nodes_are_kept_off_by_the_labels_that_ray_gives_them(tmp_path: Path) -> None:
    assert preflight.selector([]) == {}
    assert preflight.selector(["b2", "a1"]) == {"ray.io/node-id": "!in(a1,b2)"}
    assert preflight.refused_in(tmp_path) == []


def test_nodes_that_workers_found_unfit_are_read_from_what_ray_raises() -> None:
    failures: dict[int, Exception] = {0: RuntimeError("peer lost"), 1: preflight.Unfit("n1", "other code")}
    wrapped = RuntimeError("training failed")
    wrapped.__cause__ = WorkerGroupError("two workers failed", failures)
    assert preflight.unfit_nodes(wrapped) == {"n1": "other code"}
    assert preflight.unfit_nodes(RuntimeError("x")) == preflight.unfit_nodes(None) == {}
