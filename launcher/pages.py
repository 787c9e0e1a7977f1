"""Make a page from a template: one HTML file that opens in a browser, offline, with nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from launcher import results
from launcher.sections import BESIDE, Figure, Numbers, Table


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


def publish(template: str, content: Mapping[str, Any], path: Path) -> Path:
    """Write a page and, in a folder beside it, the numbers that are too large to stand in it.

    Returns:
        The path of the page.
    """
    path = Path(path)
    page = render(template, content)
    write_beside(content, path.parent)
    return write(page, path)


def write_beside(content: Mapping[str, Any], folder: Path) -> None:
    """Write the numbers that are too large for a page into the folder `report_data` of its folder."""
    for numbers in _large(content):
        write(numbers.csv, folder / BESIDE / numbers.file)


def _large(content: Any) -> Iterator[Numbers]:
    """Find what the links of a page lead to outside it."""
    if isinstance(content, Figure):
        if content.numbers.beside:
            yield content.numbers
    elif isinstance(content, Table):
        if content.linked and content.numbers.beside:
            yield content.numbers
    elif isinstance(content, Mapping):
        yield from _large(list(content.values()))
    elif isinstance(content, (list, tuple)):
        for item in content:
            yield from _large(item)
    elif is_dataclass(content):
        yield from _large([getattr(content, field.name) for field in fields(content)])


def write(page: str, path: Path) -> Path:
    """Write a page, whole or not at all; missing folders are made, an existing file is replaced.

    Returns:
        The path written.

    Raises:
        ResultsError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    results.write_whole(path, lambda unfinished: unfinished.write_text(page, encoding="utf-8", newline="\n"))
    return path
