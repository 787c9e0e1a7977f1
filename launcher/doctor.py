"""`doctor`: can a study run here, and what would be in its way?"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launcher import address, doctor_data, doctor_folder, doctor_machine, doctor_ray, doctor_software
from launcher.findings import FAULT, OK, WARNING, Check, Finding, carry_out
from launcher.places import Place

EXIT_WELL, EXIT_FAULT = 0, 2
_RESULTS = Path("results")
_COLOURS = {OK: "green", WARNING: "yellow", FAULT: "bold red"}


@dataclass(frozen=True)
class Request:
    """What the command line asked for; see `launch.py doctor --help`."""

    place: Place | None = None
    data: str | None = None
    address: str | None = None
    with_ray: bool = True
    as_json: bool = False


def execute(request: Request) -> int:
    """Look at everything, print it.

    Returns:
        2 when something would stop a study, else 0.
    """
    console = Console(stderr=True)
    findings = []
    # Ray writes banners to stdout, which is for the findings.
    with redirect_stdout(sys.stderr):
        for check in checks(request, console):
            with nullcontext() if check.shows_progress else console.status(f"looking at {check.about} ..."):
                findings += carry_out([check])
    if request.as_json:
        click.echo(json.dumps(as_dict(findings), indent=1, ensure_ascii=False))
    elif (screen := Console()).is_terminal:
        screen.print(_table(findings))
        screen.print(_summary(findings), highlight=False)
    else:
        for line in (*lines(findings), _summary(findings)):
            click.echo(line)
    return EXIT_FAULT if any(finding.level == FAULT for finding in findings) else EXIT_WELL


def checks(request: Request, console: Console) -> Iterator[Check]:
    """List what there is to look at, the quick and local first."""
    place = request.place
    folder = _RESULTS if place is None else place.folder
    yield Check("python", doctor_software.python)
    yield Check("packages", doctor_software.packages)
    yield Check("cores", doctor_machine.cores)
    yield Check("memory", doctor_machine.memory)
    yield Check("shared memory", doctor_machine.shared_memory)
    yield Check("open files", doctor_machine.open_files)
    yield Check("temporary files", doctor_machine.temporary)
    yield Check("threads", doctor_machine.threads)
    yield Check("home", doctor_machine.home)
    yield Check("disk", partial(doctor_folder.disk, folder))
    if place is not None:
        yield Check("study", partial(doctor_folder.study, folder), broken=FAULT)
    if place is not None and place.uri is not None:
        yield Check("storage", partial(doctor_folder.storage, place), broken=FAULT)
    yield Check("git", doctor_folder.git)
    yield Check("torch", doctor_software.torch)
    if request.data is not None:
        read = partial(doctor_data.data, request.data, None if place is None else place.folder, console)
        yield Check("data", read, broken=FAULT, shows_progress=True)
    yield Check("token", doctor_ray.settings)
    if address.choose(request.address).address is None:
        yield Check("ports", doctor_ray.ports)
        yield Check("processes", doctor_ray.left_over)
    if request.with_ray:
        yield Check("ray", partial(doctor_ray.answers, request.address), broken=FAULT)


def as_dict(findings: Sequence[Finding]) -> dict[str, object]:
    """Return findings as plain values: how many of each level, and each of them."""
    counts = Counter(finding.level for finding in findings)
    return {"counts": {level: counts[level] for level in _COLOURS}, "findings": [asdict(one) for one in findings]}


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Write findings as lines: level, thing and text; below it what to do."""
    for finding in findings:
        yield f"{finding.level:<8} {finding.about}: {finding.text}"
        if finding.advice:
            yield f"{'':<8} -> {finding.advice}"


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("", "what", "how it stands", "what to do"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        level = Text(finding.level, style=_COLOURS[finding.level])
        table.add_row(level, finding.about, Text(finding.text), Text(finding.advice))
    return table


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.level for finding in findings)
    verdict = "a study would stop" if counts[FAULT] else "a study can run"
    told = [
        f"{counts[level]} {noun}{'' if counts[level] == 1 else 's'}"
        for level, noun in ((FAULT, "fault"), (WARNING, "warning"))
    ]
    well = "1 thing is well" if counts[OK] == 1 else f"{counts[OK]} things are well"
    return f"{verdict}: {', '.join(told)}, {well}"
