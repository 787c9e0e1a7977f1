"""A real S3 server on loopback for tests: moto's, in threads of this process."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class Bucket:
    """A bucket that starts empty."""

    def __init__(self, port: int) -> None:
        self.name, self.port = f"speech-{uuid.uuid4().hex[:8]}", port
        self.client: Any = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        self.client.create_bucket(Bucket=self.name)

    def uri(self, name: str) -> str:
        """Return the URI of a folder."""
        return f"s3://{self.name}/{name}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def keys(self, under: str = "") -> list[str]:
        """Name all objects below a folder, relative to it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=under)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return sorted(key[len(under) :].lstrip("/") for key in keys if not key.endswith("/"))

    def read(self, key: str) -> bytes:
        """Return the content of an object."""
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        """Make an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def remove(self) -> None:
        """Remove the bucket with all that is in it."""
        for entry in self.client.list_objects_v2(Bucket=self.name).get("Contents", ()):
            self.client.delete_object(Bucket=self.name, Key=entry["Key"])
        self.client.delete_bucket(Bucket=self.name)


@contextmanager
def served() -> Iterator[int]:
    """Serve S3 at a free port of 127.0.0.1."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Serve one bucket, with the keys to it in the environment."""
    with pytest.MonkeyPatch.context() as patch, served() as port:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield Bucket(port)
