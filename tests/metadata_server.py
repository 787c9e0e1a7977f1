"""The metadata server of a cloud, for tests: real HTTP on loopback, with the answers that a test gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[str, str, Mapping[str, str]], tuple[int, str]]


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    """Serve for the time of the block; `answer(method, path, headers)` returns a status and a body. Yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answer(self.command, self.path, self.headers)  # type: ignore[arg-type]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body.encode())

        do_PUT = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def aws(end: Callable[[], str | None]) -> Answer:
    """Answer as IMDSv2: nothing without a token, 404 until the machine is taken back; `end` says when that is."""

    def answer(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        if (method, path) == ("PUT", "/latest/api/token"):
            return (200, "a token") if headers["X-aws-ec2-metadata-token-ttl-seconds"] else (400, "")
        if headers["X-aws-ec2-metadata-token"] != "a token":
            return 401, ""
        moment = end() if path == "/latest/meta-data/spot/instance-action" else None
        return (404, "") if moment is None else (200, json.dumps({"action": "terminate", "time": moment}))

    return answer
