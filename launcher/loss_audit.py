"""`audit`: what losses that were measured elsewhere say about the groups of their utterances."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from launcher import results, sections
from launcher.config_values import ConfigurationError
from launcher.loss_files import Losses, Request, read
from launcher.loss_sections import tables
from launcher.loss_stats import Analysis, analyse, stack

_NARROWEST = 132  # characters, where stdout is no terminal or a narrow one: a row stays on one line


@dataclass(frozen=True)
class Part:
    """What one file shows.

    Attributes:
        losses: as they were read.
        analysis: what they show.
        rows: the selection, empty for all.
    """

    losses: Losses
    analysis: Analysis
    rows: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Say what was read, how, and what it does not show."""
        columns = ", ".join(f"{role} = {name}" for role, name in self.losses.columns.items())
        unit = "nats per label" if self.losses.per_label else "nats per utterance"
        rows = f"rows {self.rows}" if self.rows else "all rows"
        read_as = f"{len(self.losses.frame):,} utterances ({rows}); columns: {columns}; losses in {unit}."
        return read_as, self.analysis.method, *self.analysis.notes


def execute(
    paths: Sequence[Path], request: Request, per_label: Sequence[Path], out: Path | None, command: str, *, as_json: bool
) -> None:
    """Analyse files of losses: print tables or JSON to stdout and, where `out` is given, write tables and a page there.

    Args:
        paths: the files.
        request: what to read of each.
        per_label: those of the files whose losses are divided by their length already.
        out: folder for groups.csv, pairs.csv, correlations.csv, regression.csv, shares.csv, audit.json, audit.html.
        command: as it can be typed again.
        as_json: whether stdout is JSON alone.

    Raises:
        ConfigurationError: a file cannot be used.
        ResultsError: `out` cannot be written to.
    """
    if len(set(paths)) < len(paths):
        raise ConfigurationError(f"a file is given twice: {[str(path) for path in paths]}; give each once")
    for path in per_label:
        if path not in paths:
            raise ConfigurationError(
                f"--per-label {str(path)!r} is none of the files; give one of {[str(path) for path in paths]} as it stands"
            )
    parts = [_part(path, request, per_label=path in per_label) for path in paths]
    content = {"command": command, "files": [_plain(part) for part in parts]}
    if out is not None:
        _write(parts, content, out)
    if as_json:
        click.echo(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))
        return
    for part in parts:
        _print(part)
    if out is not None:
        click.echo(f"tables and page: {out}", err=True)


def _part(path: Path, request: Request, *, per_label: bool) -> Part:
    losses = read(path, request, per_label=per_label)
    return Part(losses, analyse(losses), request.rows)


def _print(part: Part) -> None:
    """Print the tables of one file; on a terminal in its width, elsewhere wide enough for a row."""
    console = Console(highlight=False)
    if not console.is_terminal or console.width < _NARROWEST:
        console = Console(highlight=False, width=_NARROWEST)
    console.print(Text(part.losses.source, style="bold"))
    for line in part.lines:
        console.print(Text(line))
    for table in tables(part.analysis, "losses", exact=True):
        console.print()
        if not table.rows:
            console.print(Text(f"{table.caption}: {table.empty}"))
            continue
        shown = RichTable(title=Text(table.caption), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
        for name, cell in zip(table.head, table.rows[0], strict=True):
            shown.add_column(Text(name), justify="right" if cell.numeric else "left", overflow="fold")
        for row in table.rows:
            # The plain hyphen, so that a number can be searched for and pasted.
            shown.add_row(*(Text(cell.text.replace("\N{MINUS SIGN}", "-")) for cell in row))
        console.print(shown)
    console.print()


def _plain(part: Part) -> dict[str, Any]:
    """Return one file's numbers for JSON; what was not measured is null."""
    found = {name: [_finite(row) for row in frame.to_dict("records")] for name, frame in part.analysis.frames().items()}
    return {
        "file": part.losses.source,
        "rows": part.rows or None,
        "utterances": len(part.losses.frame),
        "columns": dict(part.losses.columns),
        "per_label": part.losses.per_label,
        "method": part.analysis.method,
        "notes": list(part.analysis.notes),
        **found,
    }


def _finite(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(name): None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def _write(parts: Sequence[Part], content: Mapping[str, Any], out: Path) -> None:
    """Write the tables of all files under each other, the same as JSON, and a page."""
    # Loading plotly takes a second, and most audits only print.
    from launcher import pages

    joined = stack({part.losses.source: part.analysis for part in parts}, "file", one_family=False)
    for name, frame in joined.frames().items():
        if len(frame.columns):
            results.write_whole(out / f"{name}.csv", lambda path, frame=frame: frame.to_csv(path, index=False))
    results.write_json(out / "audit.json", content)
    files = [
        {
            "source": part.losses.source,
            "figure": _figure(part, f"shares-{place}"),
            "section": {
                "title": "Losses by group",
                "lines": part.lines,
                "tables": tables(part.analysis, f"file-{place}"),
            },
        }
        for place, part in enumerate(parts)
    ]
    page = {"title": "Losses of utterances", "command": content["command"], "files": files}
    html = pages.render("audit.html.j2", page)
    pages.write_beside(page, out)
    results.write_whole(out / "audit.html", lambda path: path.write_text(html, encoding="utf-8"))


def _figure(part: Part, id: str) -> sections.Figure:
    """Show who would have the loss under each reduction that weighs by length alone."""
    from launcher.share_plots import share_bars

    shares: pd.DataFrame = part.analysis.shares.rename(columns={"group": "class"})
    reference = shares.drop_duplicates("class").set_index("class")["utterance_share"]
    drawn = share_bars(shares.assign(share=shares["loss_share"]), reference, [])
    caption = (
        "Who would have the loss under each reduction that weighs by length alone. The bar at the top is the share of "
        "utterances. A share of the loss is not yet one of the gradient."
    )
    return sections.figure(id, caption, drawn, part.analysis.shares, f"{id}.csv")
