"""`compare DIR_A DIR_B`: what differs between two studies, B minus A, and whether trials of both are the same, bit for bit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pandas as pd

from launcher import noise, printable, show
from launcher.agreement import Agreement
from launcher.answer import count, interval, percent, points, within_margin
from launcher.comparing import Found, compare
from launcher.reading import ResultsError
from launcher.utterance_files import open_study
from launcher.why import Difference

_LONGEST = 60  # characters of a value or a hypothesis in the text; the JSON has all
_MOST_DIFFERENCES = 40


def execute(
    folders: tuple[Path, Path], names: tuple[str, str], *, wanted: Sequence[str], margin: float | None, as_json: bool
) -> None:  # fmt: skip
    """Compare two studies.

    Args:
        folders: of A and of B.
        names: what to call these folders.
        wanted: pairs of variants; empty: all that match.
        margin: differences of WER within it count as none; None: as the studies say.
        as_json: write JSON instead of text.

    Raises:
        ResultsError: there is nothing to compare, and why.
    """
    if folders[0].resolve() == folders[1].resolve():
        raise ResultsError(f"{names[0]} and {names[1]} are the same folder; name two studies")
    one, other = (open_study(folder) for folder in folders)
    found = compare(one, other, folders, wanted=wanted, margin=margin)
    if as_json:
        click.echo(json.dumps(_content(found, names), indent=1, default=lambda value: value.item()))
        return
    for note in found.notes:
        click.echo(printable.line(f"Note: {note}"), err=True)
    click.echo("\n".join(map(printable.line, _text(found, names))))


def _text(found: Found, names: tuple[str, str]) -> list[str]:
    lines = [f"A: {names[0]}", f"B: {names[1]}", ""]
    lines += _made(found)
    left = found.scores.left_out
    lines += ["", f"Compared on {count(found.scores.common, 'utterance')} that both scored; left out: {left['A']:,} of A alone, "
              f"{left['B']:,} of B alone, {left['other_reference']:,} with another reference. Differences are B minus A, in points."]  # fmt: skip
    lines += ["", *_variants(found.table)]
    if found.noise is not None:
        lines.append(f"{found.noise[1].sentence()} (of {found.noise[0]})")
    for column, table in found.groups.items():
        lines += ["", *_group(column, table)]
    return [*lines, "", *_trials(found.trials)]


def _made(found: Found) -> list[str]:
    made = found.made
    lines = [*_differences("What was made differently (A | B):", made.origin)]
    lines += _differences("Configuration that can change a result (A | B):", made.configuration)
    lines += _differences("Configuration without effect on results (A | B):", made.without_effect)
    if made.unknown:
        lines.append(
            f"Of {'; '.join(made.unknown)} it is not known which keys can change a result: all that differ are listed."
        )
    return lines or ["Data, code, versions, machine and configuration: nothing that was recorded differs."]


def _differences(title: str, found: Sequence[Difference]) -> list[str]:
    if not found:
        return []
    lines = [title, *(f"  {one.key}: {_short(one.one)} | {_short(one.other)}" for one in found[:_MOST_DIFFERENCES])]
    return (
        [*lines, f"  and {len(found) - _MOST_DIFFERENCES} more (--json has all)"]
        if len(found) > _MOST_DIFFERENCES
        else lines
    )


def _variants(table: pd.DataFrame) -> list[str]:
    cautions: dict[str, int] = {}
    rows = []
    for row in table.to_dict("records"):
        told = " ".join(
            filter(
                None,
                [
                    row["caution"],
                    row["seeds_left_out"] and f"Seeds without a partner, left out: {row['seeds_left_out']}.",
                ],
            )
        )
        mark = cautions.setdefault(told, len(cautions) + 1) if told else ""
        rows.append(
            {
                "variant": printable.line(row["variant"]),
                "seeds": f"{row['n_paired_seeds']:.0f} paired"
                if row["paired"]
                else f"{row['seeds_a']} | {row['seeds_b']}",
                "WER A": percent(row["wer_a"]),
                "WER B": percent(row["wer_b"]),
                "B - A [95 %]": _difference(row),
                "p": _p(row["p"]),
                "p (Holm)": _p(row["p_holm"]),
                "p (seeds)": _p(row["p_seeds"]),
                f"within {row['margin'] * 100:g} {'point' if row['margin'] == 0.01 else 'points'}": _equivalent(row),
                "caution": f"[{mark}]" if mark else "",
            }
        )
    lines = pd.DataFrame(rows).to_string(index=False).splitlines()
    covers = [str(kind) for kind in dict.fromkeys(table["covers"]) if kind]
    lines += [f"The intervals and p speak of {'; of '.join(covers)}."] if covers else []
    return lines + [f"[{number}] {told}" for told, number in cautions.items()]


def _group(column: str, table: pd.DataFrame | None) -> list[str]:
    if table is None:
        return [f"By {column}: too many classes to compare one by one."]
    rows = [
        {
            "variant": printable.line(row["variant"]),
            printable.line(column): printable.line(row["value"]),
            "utterances": row["n_utterances"],
            "WER A": percent(row["wer_a"]),
            "WER B": percent(row["wer_b"]),
            "B - A [95 %]": _difference(row),
            "p": _p(row["p"]),
            "p (Benjamini-Hochberg)": _p(row["p_bh"]),
        }
        for row in table.to_dict("records")
    ]
    head = f"By {column}, to explore, not to conclude:"
    return (
        [head, *pd.DataFrame(rows).to_string(index=False).splitlines()]
        if rows
        else [f"By {column}: nothing to compare."]
    )


def _difference(row: Mapping[Any, Any]) -> str:
    if not math.isfinite(row["difference"]):
        return points(math.nan)
    mark = ", within the noise floor" if row["within_noise"] else ""
    return f"{points(row['difference'])} {interval(row['low'], row['high'])}{mark}"


def _equivalent(row: Mapping[Any, Any]) -> str:
    return f"{within_margin(row, 'yes')} (p {_p(row['tost_p'])})" if math.isfinite(row["tost_p"]) else ""


def _p(value: float) -> str:
    return "" if not math.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _trials(found: Sequence[Agreement]) -> list[str]:
    """Say whether the trials of the same variant and seed are the same, and where they first differ."""
    if not found:
        return ["Trials of the same variant and seed: none that both studies finished."]
    same = [one for one in found if one.identical]
    if len(same) == len(found):
        return [f"Nothing differs: {_identical(len(same))} in every hypothesis, loss and score."]
    lines = [
        f"Of {count(len(found), 'pair')} of trials of the same variant and seed, {len(same)} are identical in every hypothesis, loss and score."
    ]
    for one in (one for one in found if not one.identical):
        name = f"{one.one} (the same id)" if one.same_trial else f"{one.one} | {one.other}"
        told = [f"{one.hypotheses_differ:,} of {one.scored:,} hypotheses differ"]
        told += [f"the loss of an utterance by up to {one.loss:.2g} nats"] if one.loss > 0 else []
        told += [f"{', '.join(one.scores_differ)} too"] if one.scores_differ else []
        told += [f"{one.lacking:,} hypotheses are in one alone"] if one.lacking else []
        lines.append(f"  {name}: {'; '.join(told)}")
        lines += [
            f"    {row['phase']} {row['utt_id']}: {_short(row['a'])!r} | {_short(row['b'])!r}" for row in one.first
        ]
    return lines


def _identical(number: int) -> str:
    return "1 trial is identical" if number == 1 else f"{number} trials are identical"


def _short(value: Any) -> str:
    text = "its default" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _content(found: Found, names: tuple[str, str]) -> dict[str, Any]:
    made = found.made
    return {
        "a": names[0],
        "b": names[1],
        "made_differently": {
            "origin": [one._asdict() for one in made.origin],
            "configuration": [one._asdict() for one in made.configuration],
            "without_effect": [one._asdict() for one in made.without_effect],
            "unknown": made.unknown,
        },
        "utterances": {"common": found.scores.common, "left_out": dict(found.scores.left_out)},
        "noise_floor": None if found.noise is None else {"study": found.noise[0], **(noise.as_json(found.noise[1]) or {})},
        "variants": _records(found.table),
        "groups": {name: None if table is None else _records(table) for name, table in found.groups.items()},
        "trials": [show.plain({**asdict(one), "same_trial": one.same_trial, "identical": one.identical}) for one in found.trials],
        "notes": found.notes,
    }  # fmt: skip


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [show.plain(row) for row in table.to_dict("records")]
