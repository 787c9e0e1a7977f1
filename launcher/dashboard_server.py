"""Serve the dashboard on this machine alone, to the browser that was given the token alone.

Everything that is served has a name in `_RESOURCES`; no path of a request ever becomes the path of a file.
"""

from __future__ import annotations

import gzip
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from launcher import pages
from launcher.config import ConfigurationError
from launcher.dashboard_state import StudyView, packed

HOST = "127.0.0.1"
_NAMES_OF_THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")
_COMPRESSED_FROM = 4096  # bytes
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'self' 'nonce-{nonce}'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass
class Site:
    """What is served.

    Attributes:
        studies: in the order of the tabs.
        tensorboard: tells of TensorBoard: `url`, or why there is none; None: it was not asked for.
        token: opens the page once for a browser, which then has the session.
        once: tokens that are worth nothing after their first use.
        session: what a browser shows instead; not the token, so that the address in its history is worth nothing elsewhere.
    """

    studies: Sequence[StudyView]
    tensorboard: Callable[[], dict[str, str]] | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    once: set[str] = field(default_factory=set)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))


@dataclass(frozen=True)
class Reply:
    """What is sent back."""

    body: bytes
    kind: str = "application/json; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """The dashboard as a server.

    Args:
        site: what is served.
        port: 0: any that is free.

    Raises:
        ConfigurationError: the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, site: Site, port: int = 0) -> None:
        self.site = site
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"--port {port} cannot be had ({error.strerror}); give another one, or none for any that is free"
            ) from error

    @property
    def url(self) -> str:
        """The address that lets a browser in."""
        return f"http://{HOST}:{self.server_port}/?token={self.site.token}"

    def url_once(self) -> str:
        """Make an address that lets one browser in: the command line of a browser can be read by all users."""
        token = secrets.token_urlsafe(32)
        self.site.once.add(token)
        return f"http://{HOST}:{self.server_port}/?token={token}"

    @property
    def cookie(self) -> str:
        """The name of the cookie; cookies are shared between the ports of a host, so it names the port."""
        return f"lossgrid_{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a browser left in the middle of an answer."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version, server_version, sys_version = "HTTP/1.1", "lossgrid", ""
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        self._send(self._reply())

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self.close_connection = True  # what the request carries is not read
        self._send(_words(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.", {"Allow": "GET, HEAD"}))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: addresses hold the token, and stderr is for what a person needs."""

    def _reply(self) -> Reply:
        # A page of elsewhere whose name was made to point to this machine shows its own name here.
        if _name(self.headers.get("Host", "")) not in _NAMES_OF_THIS_MACHINE:
            return _words(HTTPStatus.MISDIRECTED_REQUEST, "This dashboard is served as 127.0.0.1 or localhost only.")
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/" and "token" in query and self._accepted(query["token"]):
            return self._let_in()
        if not _equal(self._shown(), self.server.site.session):
            return _closed()
        resource = _RESOURCES.get(address.path)
        if resource is None:
            return _words(HTTPStatus.NOT_FOUND, "There is no such resource.")
        return resource(self.server.site, query)

    def _accepted(self, token: str) -> bool:
        for once in list(self.server.site.once):
            if _equal(token, once) and self.command == "GET":
                self.server.site.once.discard(once)
                return True
        return _equal(token, self.server.site.token)

    def _let_in(self) -> Reply:
        cookie = f"{self.server.cookie}={self.server.site.session}; Path=/; HttpOnly; SameSite=Strict"
        return _words(HTTPStatus.SEE_OTHER, "Go on to /", {"Location": "/", "Set-Cookie": cookie})

    def _shown(self) -> str:
        """Return what the browser shows to be let in."""
        try:
            shown = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return ""
        return shown.value if shown is not None else ""

    def _send(self, reply: Reply) -> None:
        headers = {**_HEADERS, "Cache-Control": "no-store", **reply.headers}
        body = reply.body
        if reply.status == HTTPStatus.OK and "ETag" in headers and self.headers.get("If-None-Match") == headers["ETag"]:
            self._head(HTTPStatus.NOT_MODIFIED, headers)
            return
        if len(body) >= _COMPRESSED_FROM:
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                body, headers["Content-Encoding"] = _compressed(body), "gzip"
        self._head(reply.status, {**headers, "Content-Type": reply.kind, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _page(site: Site, query: Mapping[str, str]) -> Reply:
    nonce = secrets.token_urlsafe(16)
    page = pages.render("dashboard.html.j2", {"nonce": nonce, "num_studies": len(site.studies)})
    policy = {"Content-Security-Policy": _POLICY.format(nonce=nonce)}
    return Reply(page.encode(), "text/html; charset=utf-8", headers=policy)


def _state(site: Site, query: Mapping[str, str]) -> Reply:
    study = _chosen(site, query)
    if study is None:
        return _words(HTTPStatus.NOT_FOUND, "There is no such study here.")
    board = site.tensorboard() if site.tensorboard is not None else None
    overview = [view.summary() for view in site.studies]
    return _json({"studies": overview, "study": study.state(), "tensorboard": board})


def _curves(site: Site, query: Mapping[str, str]) -> Reply:
    study = _chosen(site, query)
    return _json(study.curves()) if study else _words(HTTPStatus.NOT_FOUND, "There is no such study here.")


def _trial(site: Site, query: Mapping[str, str]) -> Reply:
    study = _chosen(site, query)
    trial = study.trial(query.get("trial", "")) if study else None
    return _json(trial) if trial else _words(HTTPStatus.NOT_FOUND, "There is no such trial here.")


def _plotly(site: Site, query: Mapping[str, str]) -> Reply:
    body, tag = _library()
    return Reply(body, "text/javascript; charset=utf-8", headers={"ETag": tag, "Cache-Control": "private, no-cache"})


_RESOURCES: dict[str, Callable[[Site, Mapping[str, str]], Reply]] = {
    "/": _page, "/state.json": _state, "/curves.json": _curves, "/trial.json": _trial, "/plotly.js": _plotly,
}  # fmt: skip


def _chosen(site: Site, query: Mapping[str, str]) -> StudyView | None:
    number = query.get("study", "0")
    known = {str(index): study for index, study in enumerate(site.studies)}
    return known.get(number)


def _json(content: Any) -> Reply:
    body = packed(content)
    return Reply(body, headers={"ETag": _tag(body), "Cache-Control": "private, no-cache"})


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@cache
def _library() -> tuple[bytes, str]:
    from plotly.offline import get_plotlyjs

    body = get_plotlyjs().encode()
    return body, _tag(body)


def _compressed(body: bytes) -> bytes:
    return _compressed_library() if body is _library()[0] else gzip.compress(body, compresslevel=1, mtime=0)


@cache
def _compressed_library() -> bytes:
    return gzip.compress(_library()[0], compresslevel=6, mtime=0)


def _closed() -> Reply:
    # The link is for browsers that keep a strict cookie back while they follow a link from another site.
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>lossgrid dashboard</title>"
        "<p>This page opens with the address that <code>launch.py dashboard</code> printed, with its token. "
        "If that is how you came here: <a href='/'>go on</a>."
    )
    policy = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}
    return Reply(page.encode(), "text/html; charset=utf-8", HTTPStatus.FORBIDDEN, policy)


def _words(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(text.encode(), "text/plain; charset=utf-8", status, headers or {})


def _equal(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


def _name(host: str) -> str:
    """Return the name in a Host header; its port differs where a tunnel leads here."""
    name, _, port = host.rpartition(":")
    return name.lower() if name and port.isdigit() else host.lower()
