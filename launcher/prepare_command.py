"""`prepare`: make a store of a corpus, or look at one: counts, lengths, rejects, and what its splits share."""

from __future__ import annotations

import json
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from launcher import making, progress, results
from launcher.data_sections import (
    characters_table,
    count_tables,
    leak_table,
    length_tables,
    part_tables,
    reject_table,
    rejected_tables,
)
from launcher.sections import Table

_PREPARE = "trainables.corpora.commands:prepare"
_INSPECT = "trainables.corpora.commands:inspect"
_TRAINED = ("train", "validation")
_NARROWEST = 120  # characters, where stdout is no terminal or a narrow one: a row stays on one line
_WIDE = 100_000
_SPEAKERS_PRINTED = 40
_STEPS_WITHOUT_A_BAR = 10


def prepare(
    corpus: str, root: Path, out: Path | str, *, options: Sequence[str], split: str, workers: int | None, as_json: bool
) -> None:
    """Make a store and print what is in it; progress goes to stderr.

    Args:
        corpus: name of an importer.
        root: where the corpus lies.
        out: folder of the store, or its URI.
        options: NAME=VALUE for the importer.
        split: a named split; "": that of the importer.
        workers: processes that decode; None: one per core.
        as_json: whether stdout is JSON alone.

    Raises:
        ValueError: with `is_request_error`, when the request cannot be carried out as it stands.
    """
    console = _stderr()
    with making.made(out) as place:
        with _shown(console, f"preparing {corpus}") as show:
            found = pkgutil.resolve_name(_PREPARE)(
                corpus, root, place.folder, options=options, split=split, workers=workers, progress=show,
                anew=place.uri is not None,
            )  # fmt: skip
        found["path"] = place.shown() if place.uri is not None else found["path"]
    _print(found, as_json=as_json)
    missing = [name for name in _TRAINED if name not in {row["split"] for row in found["by"]["split"]}]
    if missing:
        console.print(
            f"Note: no utterance is in {' and none in '.join(missing)}: a study that trains needs some there, by another "
            "--split or by the key split",
            style="yellow", markup=False, highlight=False,
        )  # fmt: skip
    console.print(f"prepared; to use it: --data {found['path']}", markup=False, highlight=False)


def inspect(location: str, *, as_json: bool) -> None:
    """Print what is in a store and write inspect.html into it.

    A store that is named by a URI gets no page, and neither do a manifest and a union of several: they have no folder.

    Raises:
        ValueError: with `is_request_error`, when it is no store or cannot be written to.
    """
    with _shown(_stderr(), f"reading {location}") as show:
        found = pkgutil.resolve_name(_INSPECT)(location, progress=show)
    _print(found, as_json=as_json)
    if found["path"] and "://" not in location:
        page = write_page(found, Path(found["path"]) / "inspect.html")
        click.echo(f"page: {page}", err=True)


def _stderr() -> Console:
    return Console(stderr=True, width=None if sys.stderr.isatty() else _WIDE, soft_wrap=not sys.stderr.isatty())


@contextmanager
def _shown(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far reading is: a bar on a terminal, a line for every tenth otherwise."""
    with progress.reading(console, what) as bar:
        task = bar.add_task("audio", total=None)
        said = [0]

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            step = _STEPS_WITHOUT_A_BAR * done // max(1, total)
            if step < said[0]:
                said[0] = 0  # the next manifest
            if not console.is_terminal and step > said[0]:
                said[0] = step
                console.print(f"{done:,} of {total:,} utterances read", markup=False, highlight=False)

        yield show


def write_page(found: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a store, whole or not at all.

    Returns:
        `path`.
    """
    # Loading plotly takes a second, and most calls only print.
    from launcher import pages
    from launcher.data_sections import length_figures

    content = {
        "title": Path(found["path"]).name,
        "facts": facts(found),
        "warnings": found["leak_lines"],
        "counted": [*part_tables(found), *count_tables(found)],
        "figures": length_figures(found),
        "lengths": length_tables(found),
        "leaks": leak_table(found),
        "rejects": reject_table(found),
        "characters": characters_table(found),
        "notes": found["notes"],
    }
    html = pages.render("prepare.html.j2", content)
    pages.write_beside(content, path.parent)
    results.write_whole(path, lambda temporary: temporary.write_text(html, encoding="utf-8"))
    return path


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a store is, as names and values."""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in found["channels_left_out"].items())
    several = f"{found['several_channels']:,} (averaged, no channel is checked)" if found["several_channels"] else ""
    rows = [
        ("Store", found["path"]),
        ("Source", found["source"]),
        ("Fingerprint", found["fingerprint"]),
        ("Split", found["split"] or "as in the corpus"),
        ("Utterances", f"{found['utterances']:,}"),
        ("Hours", f"{found['hours']:.2f}"),
        ("Rejected", f"{sum(found['rejects'].values()):,}"),
        ("Microphones left out", left_out),
        ("Files with several channels", several),
    ]
    return [(name, str(value)) for name, value in rows if value != ""]


def _print(found: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False))
        return
    console = Console(highlight=False)
    if not console.is_terminal or console.width < _NARROWEST:
        console = Console(highlight=False, width=_NARROWEST)
    for name, value in facts(found):
        console.print(Text(f"{name}: {value}", overflow="fold"))
    tables = [*part_tables(found), *count_tables(found), *length_tables(found), leak_table(found), reject_table(found)]
    whole = "inspect.html (prepare --inspect) and in --json" if found["path"] else "--json"
    for table in [*tables, *rejected_tables(found), characters_table(found)]:
        console.print()
        _print_table(console, table, whole)
    for note in found["notes"]:
        console.print(Text(f"Note: {note}"))
    for line in found["leak_lines"]:
        console.print(Text(f"Shared: {line}", style="yellow"))


def _print_table(console: Console, table: Table, whole: str) -> None:
    if not table.rows:
        console.print(Text(f"{table.caption}: {table.empty}"))
        return
    console.print(Text(table.caption, style="italic"))  # as the title of the table it would be as narrow as that
    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False)
    for name, cell in zip(table.head, table.rows[0], strict=True):
        shown.add_column(Text(name), justify="right" if cell.numeric else "left", overflow="fold")
    for row in table.rows[:_SPEAKERS_PRINTED]:
        shown.add_row(*(Text(cell.text) for cell in row))
    console.print(shown)
    if (more := len(table.rows) - _SPEAKERS_PRINTED) > 0:
        console.print(Text(f"and {more:,} more: they are in {whole}"))
