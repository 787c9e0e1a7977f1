"""What the watcher on a spot machine takes for a notice, from metadata servers that answer, refuse and are silent."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

import pytest
from metadata_server import aws, served

from clusters import spot_watcher
from clusters.spot_watcher import CLOUDS, MetadataError, ask_aws, ask_gcp, end_of_aws, is_preempted, watch

NOON = 1795435200.0


class Node:
    """Stands in for Ray's edge: refuses to drain some times, and is gone after some looks."""

    def __init__(self, refuses: int = 0, lives: int = 1000) -> None:
        self.refuses, self.lives, self.drained = refuses, lives, []

    def is_gone(self) -> bool:
        self.lives -= 1
        return self.lives < 0

    def drain(self, end: float) -> bool:
        self.drained.append(end)
        return len(self.drained) > self.refuses


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
@pytest.mark.parametrize("moment", ["2026-11-23T12:00:00Z", "2026-11-23T12:00:00+00:00", "2026-11-23T12:00:00"])
def test_every_action_of_aws_ends_the_machine_at_its_time_which_is_utc(action: str, moment: str) -> None:
    assert end_of_aws(f'{{"action": "{action}", "time": "{moment}"}}') == NOON


@pytest.mark.parametrize("answer", ["", "<html>", "[]", '{"action": "terminate"}', '{"time": 3}', '{"time": "soon"}'])
def test_what_is_no_notice_of_aws_is_told_and_not_taken_for_one(answer: str) -> None:
    with pytest.raises(MetadataError, match="holds no action with its time"):
        end_of_aws(answer)


@pytest.mark.parametrize(("answer", "preempted"), [("TRUE", True), ("FALSE", False), ("TRUE\n", True)])
def test_google_says_true_or_false(answer: str, preempted: bool) -> None:
    assert is_preempted(answer) is preempted
    with pytest.raises(MetadataError, match="neither TRUE nor FALSE"):
        is_preempted("true, perhaps")


def test_aws_is_asked_with_a_token_and_has_no_notice_for_a_machine_that_stays() -> None:
    with served(aws(lambda: None)) as server:
        assert ask_aws(server) is None
    with served(aws(lambda: "2026-11-23T12:00:00Z")) as server:
        assert ask_aws(server) == NOON


def test_google_is_asked_with_its_flavour_and_leaves_less_than_half_a_minute() -> None:
    said = iter(["FALSE", "TRUE"])

    def answer(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        asked_well = (path, headers["Metadata-Flavor"]) == ("/computeMetadata/v1/instance/preempted", "Google")
        return (200, next(said)) if asked_well else (403, "")

    with served(answer) as server:
        assert ask_gcp(server) is None
        before = time.time()
        end = ask_gcp(server)
    assert end is not None
    assert before < end < time.time() + 30


def test_a_proxy_for_the_rest_of_the_world_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with served(aws(lambda: None)) as server:
        assert ask_aws(server) is None


def test_the_watcher_survives_a_server_that_fails_and_asks_ray_until_it_drains(caplog) -> None:
    answers = iter([503, 503, 404])
    whole = aws(lambda: "2026-11-23T12:00:00Z")

    def answer(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        code = next(answers, 200) if method == "PUT" else 200
        return whole(method, path, headers) if code == 200 else (code, "")

    node = Node(refuses=2)
    with served(answer) as server, caplog.at_level("INFO"):
        watch(CLOUDS["aws"], server, 0.0, node)  # type: ignore[arg-type]
    assert node.drained == [NOON] * 3
    told = [
        record.message for record in caplog.records if "metadata server" in record.message or "asking" in record.message
    ]
    assert [message.partition("token ")[2] or message for message in told] == [
        "answers 503; asking again", "(404); asking again", "the metadata server answers again",
    ]  # fmt: skip


def test_the_watcher_survives_silence_and_ends_with_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spot_watcher, "_ALIVE_POLL_SECONDS", -1.0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # not listening
        node = Node(lives=3)
        watch(CLOUDS["aws"], f"http://127.0.0.1:{nobody.getsockname()[1]}", 0.0, node)  # type: ignore[arg-type]
    assert (node.lives, node.drained) == (-1, [])
