"""Make a page from a template: one HTML file that opens in a browser, offline, with nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs


def render(template: str, content: Mapping[str, Any]) -> str:
    """Return a page as HTML.

    Args:
        template: a file beside this one that extends page.html.j2.
        content: what it shows; all of it is escaped.
    """
    environment = Environment(
        loader=PackageLoader("launcher", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    # The library is inlined once and trusted; everything else goes through autoescape.
    return environment.get_template(template).render(**content, plotly_js=Markup(get_plotlyjs()))


def write(page: str, path: Path) -> Path:
    """Write a page, whole or not at all; missing folders are made, an existing file is replaced.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same folder, because a rename is only atomic within one file system.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
