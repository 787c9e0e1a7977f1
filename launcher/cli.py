"""The commands. Click parses; everything else is imported when it is needed, so that `--help` is instant."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from launcher import ending
from launcher.locations import LOCATION, PATH


def main() -> None:
    """Run the command line; a request that cannot be carried out is one message and exit code 2."""
    ending.run(lambda: cli.main(standalone_mode=False, prog_name=Path(sys.argv[0]).name))


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 all trials done; 2 the request was wrong; 3 some trials failed; 130 interrupted, can be resumed.",
)
@click.version_option(package_name="lossgrid")
@click.option(
    "--grid", metavar="NAME", help="Search space to run, for example: losses. Alone it runs on the sample corpus."
)
@click.option("--config", type=PATH, help="Experiment file (.conf).")
@click.option(
    "--data",
    metavar="PATH",
    help="Manifests (.csv, .tsv, .jsonl, .parquet) by path, prepared stores by path or URI; several with commas.",
)
@click.option(
    "--out",
    type=LOCATION,
    help="Folder of the study, or its URI (s3://bucket/study).  [default: save_results, else results/GRID]",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help='Any configuration key; commas make an axis: --set seed=1,2,3. Also "Section.key=value".')  # fmt: skip
@click.option("--exact", type=click.IntRange(1), metavar="N",
              help="In audits, also measure the gradient at all weights on N utterances (audit_exact = N).")  # fmt: skip
@click.option("--plan", is_flag=True, help="List the trials, what is done of them and what is left; run nothing.")
@click.option("--probe", is_flag=True, help="With --plan: try one trial for a few updates, to estimate time and disk.")
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout.")
@click.option(
    "--address",
    help="Ray cluster to run on; local: none.  [default: RAY_ADDRESS, else the one this machine is part of]",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True,
              help="Workers that share each update of a trial, one device each.")  # fmt: skip
@click.option("--backend", type=click.Choice(["train", "tune"]), default="train", show_default=True,
              help="Ray Train inside each trial, or the training function alone (starts sooner, one worker).")  # fmt: skip
@click.option("--max-concurrent", type=click.IntRange(1), help="Trials at a time.  [default: as many as devices]")
@click.option("--aa", type=click.IntRange(2), metavar="N",
              help="Run the baseline's first trial N times in all: how far do equal runs differ?")  # fmt: skip
@click.option("--gpus-per-worker", metavar="F", default="1", show_default=True,
              help="Part of a GPU for one worker: 0.25 lets four trials share one; auto: by the memory of finished trials.")  # fmt: skip
@click.option("--cpus-per-worker", metavar="F", default="1", show_default=True,
              help="CPUs, and so threads, of one worker; or a part of one, as in 0.5, where a GPU does the work.")  # fmt: skip
@click.option("--early-stopping", is_flag=True,
              help="End trials early that are behind others in validation loss per label (ASHA); they can go on later.")  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Run trials again that failed before.")
@click.option("--fresh", is_flag=True, help="Run all trials again; what they measured before is kept aside.")
@click.option("--fail-fast", is_flag=True, help="Stop behind checkpoints as soon as one trial fails.")
@click.pass_context
def cli(context: click.Context, grid: str | None, **options: Any) -> int | None:
    """Which utterances does my CTC loss listen to, and what does that do to the word error rate of each group?"""
    if context.invoked_subcommand is not None:
        if grid is not None:
            raise click.UsageError(f"--grid {grid} and the command {context.invoked_subcommand} exclude each other")
        return None
    if grid is None:
        if len(sys.argv) > 1:
            raise click.UsageError("--grid NAME is missing, or a command; --help lists them")
        click.echo(context.get_help())
        return 0
    from launcher.grid import Request, execute

    if options["probe"] and not options["plan"]:
        raise click.UsageError("--probe belongs to --plan: give both")
    if (exact := options.pop("exact")) is not None:
        options["overrides"] = (*options["overrides"], f"audit_exact={exact}")
    return execute(Request(grid=grid, command=_command(), **options))


@cli.command()
@click.argument("folder", metavar="DIR", type=LOCATION)
@click.option("--watch", is_flag=True, help="Go on until all trials have ended; Ctrl-C leaves.")
@click.option("--interval", type=click.FloatRange(0.1), default=2.0, show_default=True, metavar="S",
              help="With --watch: seconds between two readings.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout; with --watch one object for each change.")
def status(folder: Path | str, watch: bool, interval: float, as_json: bool) -> int:
    """Show the trials of a study, running or not, from any terminal or machine that sees DIR."""
    from launcher import places
    from launcher import watch as watching

    with places.read(folder, follow=watch) as place:
        if watch:
            return watching.follow(place.folder, interval, as_json=as_json)
        return watching.once(place.folder, as_json=as_json)


@cli.command()
@click.argument("one", metavar="ID")
@click.argument("other", metavar="ID")
@click.option("--out", "outs", multiple=True, metavar="DIR", type=LOCATION,
              help="Study to search, or its URI; may be given several times.  [default: all of results/]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout.")
def why(one: str, other: str, outs: tuple[Path | str, ...], as_json: bool) -> None:
    """Say why two trials have different ids, and what else differs; ID may be the beginning of one, or a folder."""
    from launcher import places, why_command

    with ExitStack() as stack:
        here = [stack.enter_context(places.read(folder)).folder for folder in outs]
        why_command.execute((one, other), here, as_json=as_json)


@cli.command()
@click.argument("folder", metavar="DIR", type=LOCATION)
@click.option(
    "--audio", is_flag=True, help="Put the sound of the worst utterances into report_with_speech.html instead."
)
def report(folder: Path | str, audio: bool) -> None:
    """Write report.html of a study anew."""
    from launcher import clips, places, utterance_files
    from launcher import report as html

    with places.read(folder) as place:
        tables = utterance_files.open_study(place.folder)
        if audio:
            # Under a name of its own, so that nobody passes speech on by mistake.
            sounds = partial(clips.from_store, tables.study)
            page = html.write(tables, place.folder / "report_with_speech.html", sounds)
        else:
            page = html.write(tables, place.folder / "report.html")
        place.send(page)
        click.echo(place.shown(page))


@cli.command()
@click.argument("folders", metavar="DIR...", type=LOCATION, nargs=-1, required=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N",
              help="Port to serve at.  [default: any that is free]")  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Also start TensorBoard, and link it.")
@click.option("--open", "visit", is_flag=True, help="Open the page in a browser.")
def dashboard(folders: tuple[Path | str, ...], port: int, tensorboard: bool, visit: bool) -> int:
    """Serve a live page about studies, running or not, on 127.0.0.1; its address is printed. Ctrl-C ends it."""
    from launcher import dashboard as page
    from launcher import places

    with ExitStack() as stack:
        here = [stack.enter_context(places.read(folder, follow=True)).folder for folder in folders]
        return page.execute(here, port=port, tensorboard=tensorboard, visit=click.launch if visit else None)


@cli.command()
@click.argument("folder", metavar="DIR", type=LOCATION)
@click.option("-f", "--format", "kind", type=click.Choice(["csv", "json", "parquet"]), default="csv", show_default=True)
def export(folder: Path | str, kind: str) -> None:
    """Write the tables of a study into DIR/export."""
    from launcher import places, results

    with places.read(folder) as place:
        for path in results.export(place.folder, kind):
            place.send(path)
            click.echo(place.shown(path))


@cli.command()
@click.argument("one", metavar="DIR_A", type=LOCATION)
@click.argument("other", metavar="DIR_B", type=LOCATION)
@click.option("--variant", "wanted", multiple=True, metavar="A=...,B=...",
              help="Variants to compare; may be given several times.  [default: all that both studies have]")  # fmt: skip
@click.option("--margin", type=click.FloatRange(0, min_open=True), metavar="M", help="Differences within it are none.")
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout.")
def compare(one: Path | str, other: Path | str, **options: Any) -> None:
    """Compare two studies: what was made differently, B minus A, and whether their trials agree bit for bit."""
    from launcher import compare_command, places

    with places.read(one) as ours, places.read(other) as theirs:
        compare_command.execute((ours.folder, theirs.folder), (ours.shown(), theirs.shown()), **options)


@cli.command("config")
@click.argument("file", metavar="FILE", type=PATH)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As with --grid.")
@click.option("--check", is_flag=True, help="Say in one line whether the file is valid; the exit code is 0 or 2.")
@click.option("--convert", is_flag=True, help="Print FILE in today's spelling, with its comments, instead.")
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout.")
def config_file(file: Path, overrides: tuple[str, ...], check: bool, convert: bool, as_json: bool) -> int:
    """Show what an experiment file means: every key with its value, checked in every trial."""
    if convert and (check or as_json or overrides):
        raise click.UsageError("--convert prints FILE as a file; give it without --check, --json and --set")
    from launcher import config_command

    return config_command.execute(file, overrides, check=check, convert=convert, as_json=as_json)


@cli.command()
@click.argument("files", metavar="FILE...", type=PATH, nargs=-1, required=True)
@click.option("--loss", metavar="COL", help="Column of the losses.  [default: loss]")
@click.option("--group", metavar="COL", help="Column of the classes to compare.  [default: group or task]")
@click.option("--length", metavar="COL", help="Column of the lengths in labels.  [default: length or labels]")
@click.option("--speaker", metavar="COL", help="Column of the speakers.  [default: speaker, if there is one]")
@click.option("--rows", default="", metavar="A:B", help="Rows to use, as a Python slice: 0:412.")
@click.option("--name", "names", multiple=True, metavar="CLASS=NAME", help="What to call a class: 0=dysarthric.")
@click.option("--per-label", multiple=True, metavar="FILE", type=PATH,
              help="One of the files, if its losses are divided by their length already.")  # fmt: skip
@click.option("--out", type=PATH, help="Folder for the tables and a page.")
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout.")
def audit(files: tuple[Path, ...], rows: str, names: tuple[str, ...], per_label: tuple[Path, ...], out: Path | None,
          as_json: bool, **columns: str | None) -> None:  # fmt: skip
    """Compare the losses of groups of utterances, measured elsewhere: one row per utterance in each FILE."""
    from launcher import loss_audit
    from launcher.loss_files import Request

    named = {role: column for role, column in columns.items() if column is not None}
    request = Request(columns=named, rows=rows, names=names)
    loss_audit.execute(files, request, per_label, out, _command(), as_json=as_json)


@cli.command("prepare")
@click.argument("corpus", metavar="CORPUS", required=False)
@click.argument("source", metavar="SRC", type=PATH, required=False)
@click.option("--out", metavar="STORE", type=LOCATION, help="Folder of the store, or its URI; it is made.")
@click.option(
    "--option", "options", multiple=True, metavar="K=V", help="What the corpus can be asked for; see docs/data.md."
)
@click.option("--split", default="", metavar="NAME", help="Named split, for example dependent or loso(speaker=F01).")
@click.option("--workers", type=click.IntRange(1), help="Processes that decode.  [default: as many as cores]")
@click.option("--inspect", metavar="STORE", help="Show what is in a store instead, and write STORE/inspect.html; or in a manifest "
              "or the union A,B, and write nothing.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout.")
def prepare_corpus(corpus: str | None, source: Path | None, out: Path | str | None, options: tuple[str, ...], split: str,
                   workers: int | None, inspect: str | None, as_json: bool) -> None:  # fmt: skip
    """Make a store of a corpus (uaspeech, torgo, l2arctic, sap, manifest) that lies in SRC; interrupted, it goes on."""
    from launcher import prepare_command

    if inspect is not None:
        if corpus or source or out or options or split or workers:
            raise click.UsageError("--inspect STORE stands alone, or with --json")
        return prepare_command.inspect(inspect, as_json=as_json)
    if corpus is None or source is None or out is None:
        raise click.UsageError("needed: prepare CORPUS SRC --out STORE, or prepare --inspect STORE")
    prepare_command.prepare(corpus, source, out, options=options, split=split, workers=workers, as_json=as_json)


@cli.command()
@click.argument("folder", metavar="[DIR]", type=LOCATION, required=False)
@click.option("--data", metavar="PATH", help="Also read these data, as a study would.")
@click.option("--address", help="Ray cluster to meet; local: none.  [default: as for a study]")
@click.option("--no-ray", "with_ray", flag_value=False, default=True, help="Start and meet no Ray.")
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout.")
def doctor(folder: Path | str | None, **options: Any) -> int:
    """Look whether a study can run here (in DIR), and say what to do about what is in its way."""
    from launcher import doctor as examination
    from launcher import places

    if folder is None:
        return examination.execute(examination.Request(**options))
    with places.read(folder, may_be_empty=True) as place:
        return examination.execute(examination.Request(place=place, **options))


def _command() -> str:
    """Write the command line as it can be typed again, save for secrets."""
    import shlex

    from launcher import masking

    program = Path(sys.argv[0]).name
    words = ["python", program] if program.endswith(".py") else [program]
    return masking.without_secrets(shlex.join([*words, *sys.argv[1:]]))
