"""Where the Ray dashboard of a running study is: OUT/ray.json, there while trials are scheduled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher import provenance, results

NAME = "ray.json"
_URL = re.compile(r"http://[A-Za-z0-9.-]+:\d{1,5}")


@dataclass(frozen=True)
class Place:
    """Where a Ray dashboard is.

    Attributes:
        url: as seen from the machine that it runs on; without a token.
        host: name of the machine that the study was launched on.
    """

    url: str
    host: str

    @property
    def is_here(self) -> bool:
        """Whether the study was launched on this machine."""
        return self.host == provenance.host()


@contextmanager
def told(out: Path, address: str) -> Iterator[None]:
    """Tell where the dashboard is for the time of the block.

    Args:
        out: folder of the study.
        address: host:port, as Ray tells it; "": Ray runs without a dashboard, and nothing is written.
    """
    if not address:
        yield
        return
    results.write_json(out / NAME, {"url": f"http://{address}", "host": provenance.host()})
    try:
        yield
    finally:
        (out / NAME).unlink(missing_ok=True)


def read(out: Path) -> Place | None:
    """Read where the dashboard is; None where that is not told, or in a way that no launch writes."""
    try:
        content = json.loads((out / NAME).read_text(encoding="utf-8"))
        url, host = content["url"], content["host"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # The folder may be shared with others, and the page makes a link of it.
    if not isinstance(url, str) or not isinstance(host, str) or not _URL.fullmatch(url):
        return None
    return Place(url, host)
