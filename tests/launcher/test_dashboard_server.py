"""The dashboard opens to who has the token, on this machine, and serves what has a name."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launcher.config import ConfigurationError
from launcher.dashboard_server import HOST, Server, Site
from launcher.dashboard_state import StudyView
from tests.launcher.studies import ONE_ATTEMPT, put, study, write_study

MADE = study("reduction=sum,mean", "seed=1")
ONE = MADE.trials()[0].trial_id
SECRET = "nobody-may-read-this"


def view(folder: Path) -> StudyView:
    return StudyView(folder, rest_seconds=0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_study(tmp_path / "out", MADE)


@dataclass
class Visitor:
    """A browser, as far as the server sees it."""

    server: Server
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(HOST, self.server.server_port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in {**self.headers, **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def let_in(self) -> Visitor:
        self.headers["Cookie"] = f"{self.server.cookie}={self.server.site.session}"
        return self

    def json(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture
def server(out: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "secret.txt").write_text(SECRET)
    (out / "secret.txt").write_text(SECRET)
    with Server(Site([view(out), view(tmp_path / "later")])) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


PATHS = ["/", "/state.json", "/curves.json", f"/trial.json?trial={ONE}", "/plotly.js"]


@pytest.mark.parametrize("path", [*PATHS, "/?token=", "/?token=wrong", "/state.json?token=wrong", "/nowhere"])
def test_without_the_token_nothing_is_told(server: Server, path: str) -> None:
    status, headers, body = Visitor(server).ask(path)
    assert status == 403
    assert ONE.encode() not in body
    assert "Set-Cookie" not in headers


def test_the_token_is_exchanged_for_a_strict_cookie_and_leaves_the_address(server: Server) -> None:
    status, headers, _ = Visitor(server).ask(server.url.partition(str(server.server_port))[2])
    assert (status, headers["Location"]) == (303, "/")
    cookie, *rules = headers["Set-Cookie"].split("; ")
    assert set(rules) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert server.site.token not in cookie
    visitor = Visitor(server, {"Cookie": cookie})
    assert [visitor.ask(path)[0] for path in PATHS] == [200] * len(PATHS)


def test_an_address_for_one_browser_opens_once(server: Server) -> None:
    path = server.url_once().partition(str(server.server_port))[2]
    assert [Visitor(server).ask(path)[0] for _ in range(2)] == [303, 403]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_page_whose_name_was_made_to_point_here_is_refused(server: Server, host: str) -> None:
    assert Visitor(server).let_in().ask("/state.json", Host=host)[0] == 421


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:80"])
def test_a_tunnel_may_lead_here(server: Server, host: str) -> None:
    assert Visitor(server).let_in().ask("/state.json", Host=host)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_reading_is_answered(server: Server, method: str) -> None:
    status, headers, _ = Visitor(server).let_in().ask("/state.json", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_tells_the_length_alone(server: Server) -> None:
    status, headers, body = Visitor(server).let_in().ask("/plotly.js", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1_000_000


@pytest.mark.parametrize(
    "path",
    ["/secret.txt", "/../secret.txt", "/%2e%2e/secret.txt", "/study.json", "//secret.txt", "/trial.json?trial=../secret.txt",
     "/trial.json?trial=%2e%2e%2f%2e%2e", "/trial.json?trial=", "/state.json?study=-1", "/state.json?study=2",
     "/curves.json?study=../out", "/dashboard.html.j2"],
)  # fmt: skip
def test_no_request_reaches_a_file_by_its_path(server: Server, path: str) -> None:
    status, _, body = Visitor(server).let_in().ask(path)
    assert status == 404
    assert SECRET.encode() not in body


def test_it_listens_to_this_machine_and_lets_no_other_page_read(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    visitor = Visitor(server).let_in()
    for path in PATHS:
        _, headers, _ = visitor.ask(path, Origin="http://evil.example")
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert headers["X-Content-Type-Options"] == "nosniff"
    _, headers, page = visitor.ask("/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert page.count(b"<script") == 2
    assert ONE.encode() not in page


def test_a_port_that_is_taken_is_refused_with_words(server: Server) -> None:
    with pytest.raises(ConfigurationError, match=rf"--port {server.server_port} cannot be had .*give another one"):
        Server(server.site, server.server_port)


def test_what_has_not_changed_is_not_sent_again(server: Server, out: Path) -> None:
    visitor = Visitor(server).let_in()
    tag = visitor.ask("/state.json")[1]["ETag"]
    assert visitor.ask("/state.json", If_None_Match=tag)[::2] == (304, b"")
    put(out, ONE, failure={"error": "ValueError: no"}, attempts=ONE_ATTEMPT)
    assert visitor.ask("/state.json", If_None_Match=tag)[0] == 200


def test_all_studies_are_told_of_and_one_that_is_not_there_is_waited_for(server: Server, tmp_path: Path) -> None:
    visitor = Visitor(server).let_in()
    found = visitor.json("/state.json?study=1")
    assert [one["phase"] for one in found["studies"]] == ["stopped", "waiting"]
    assert "holds no study" in found["study"]["note"]
    assert "goes on looking" in found["study"]["note"]
    write_study(tmp_path / "later", MADE)
    found = visitor.json("/state.json?study=1")["study"]
    assert (found["phase"], found["total"], found["note"][:6]) == ("stopped", 2, "Nobody")
