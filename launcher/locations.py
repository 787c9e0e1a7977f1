"""What the commands take as a place: a path of this machine, or for studies and stores also a URI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class _Location(click.ParamType):
    """A path, or the URI of a folder on another file system."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Keep a URI as it is: as a path it would lose a slash."""
        _refuse_nothing(self, value, param, ctx)
        return value if "://" in str(value) else Path(value)


def _refuse_nothing(
    kind: click.ParamType, value: Any, param: click.Parameter | None, ctx: click.Context | None
) -> None:
    """As a path, an empty text would be the current folder."""
    if not str(value).strip():
        kind.fail("the name is empty (a variable of the shell that is not set?); give a path", param, ctx)


class _Path(click.ParamType):
    """A path of this machine."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Refuse a URI: as a path it would be another name, of nothing."""
        _refuse_nothing(self, value, param, ctx)
        if "://" in str(value):
            kind = str(value).partition("://")[0]
            self.fail(f"an address ({kind}://) cannot be given here; copy the files and give their path", param, ctx)
        return Path(value)


LOCATION, PATH = _Location(), _Path()
