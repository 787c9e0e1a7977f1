"""Where this machine keeps its copies of studies that lie on another file system: one folder each, however it is spelled."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

_SAYS_WHERE = ("blob_storage_authority", "dfs_storage_authority", "endpoint_override")
"""Options of pyarrow's addresses that name another server; the others say how to speak to it, or with which keys."""
_USER_IS_A_KEY = ("s3", "gs", "gcs", "hdfs", "viewfs")
"""Before the @ of abfs stands the container."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Variables by which pyarrow finds another server than Amazon's."""
_ALIASES = {"gcs": "gs", "abfss": "abfs"}


def cache_folder(uri: str) -> Path:
    """Return where this machine keeps its copies of a study."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    where = identity(uri)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", where.partition("?")[0].rpartition("/")[2])[:40]
    return Path(home) / "lossgrid" / "studies" / f"{name}-{hashlib.sha256(where.encode()).hexdigest()[:16]}"


def work_folder(uri: str) -> Path:
    """Return where attempts of a study on this machine have their folders."""
    return cache_folder(uri) / "work"


def identity(uri: str) -> str:
    """Return what all spellings of the address of a folder have in common: server and path, without keys and options.

    What an attempt could not send is looked for by it, and so is whoever works on the copy.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme
    user, at, server = parts.netloc.rpartition("@")
    kept = "" if scheme in _USER_IS_A_KEY else user.partition(":")[0] + at
    path = unquote(parts.path).rstrip("/")
    options = sorted((name, value) for name, value in parse_qsl(parts.query) if name in _SAYS_WHERE and value)
    told = "&".join(f"{name}={value}" for name, value in options)
    if scheme == "s3" and not told:
        told = next((f"endpoint={value}" for name in _ENDPOINTS if (value := os.environ.get(name))), "")
    return f"{_ALIASES.get(scheme, scheme)}://{kept}{server}{path}" + (f"?{told}" if told else "")
