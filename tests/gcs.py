"""A server that speaks Google Cloud Storage, on loopback for tests: gcp-storage-emulator, in a thread of this process."""

from __future__ import annotations

import json
import logging
import socket
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from gcp_storage_emulator.server import create_server


class Bucket:
    """A bucket that starts empty; what tests.s3 has for S3."""

    def __init__(self, port: int) -> None:
        self.name, self.port = f"speech-{uuid.uuid4().hex[:8]}", port
        self._ask("POST", "/storage/v1/b?project=p", json.dumps({"name": self.name}).encode())

    def uri(self, name: str) -> str:
        """Return the URI of a folder."""
        options = f"scheme=http&endpoint_override=127.0.0.1:{self.port}&retry_limit_seconds=10"
        return f"gs://anonymous@{self.name}/{name}?{options}"

    def keys(self, under: str = "") -> list[str]:
        """Name all objects below a folder, relative to it."""
        listed = json.loads(self._ask("GET", f"/storage/v1/b/{self.name}/o?prefix={quote(under, safe='')}"))
        keys = [entry["name"] for entry in listed.get("items", ())]
        return sorted(key[len(under) :].lstrip("/") for key in keys if not key.endswith("/"))

    def read(self, key: str) -> bytes:
        """Return the content of an object."""
        return self._ask("GET", f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}?alt=media")

    def write(self, key: str, content: bytes) -> None:
        """Make an object."""
        self._ask("POST", f"/upload/storage/v1/b/{self.name}/o?uploadType=media&name={quote(key, safe='')}", content)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method=method)
        request.add_header(
            "Content-Type", "application/json" if path.startswith("/storage") else "application/octet-stream"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Serve one bucket at a free port of 127.0.0.1."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True)
    server.start()
    try:
        yield Bucket(port)
    finally:
        server.stop()
