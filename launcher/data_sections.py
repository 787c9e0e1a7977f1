"""Turn the summary of a store into tables of cells and figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.sections import Cell, Figure, Table, figure, number, text, whole

_UNUSED = "(not used)"
_QUANTILES = ("shortest", "5 %", "median", "95 %", "longest")
_UNITS = {"seconds": "seconds of audio", "characters": "characters of the transcript"}


def part_tables(found: Mapping[str, Any]) -> list[Table]:
    """List what a store was selected from, one row each; no table for a store that was made from recordings."""
    rows = tuple(
        (
            text(part["location"] or part["source"]), text(part["fingerprint"]), whole(part["utterances"]),
            number(part["seconds"], "{:,.1f}", 1 / 60), text(_counted(part["by_split"])),
            text(_counted(part["left_out"])), text(_counted(part["rejects"])),
        )
        for part in found["parts"]
    )  # fmt: skip
    head = ("part", "fingerprint", "utterances", "minutes", "by split", "not taken over", "rejected in it")
    return [Table("parts", "What it is selected from", head, rows)] if rows else []


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or _UNUSED} {count:,}" for name, count in counts.items()) or "none"


def count_tables(found: Mapping[str, Any]) -> list[Table]:
    """List utterances, speakers and hours by split and group, and by corpus, group, split and speaker alone."""
    tables = [_counts("counts", "Utterances by split and group", ("split", "group"), found["counts"])]
    for name, rows in found["by"].items():
        tables.append(_counts(f"by-{name}", f"Utterances by {name}", (name,), rows))
    return tables


def _counts(id: str, caption: str, names: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    speakers = () if names == ("speaker",) else ("speakers",)
    cells = tuple(
        (
            *(text(row[name] or _UNUSED) for name in names),
            whole(row["utterances"]),
            *(whole(row[name]) for name in speakers),
            number(row["seconds"], "{:,.1f}", 1 / 60),
        )
        for row in rows
    )
    return Table(id, caption, (*names, "utterances", *speakers, "minutes"), cells)


def length_tables(found: Mapping[str, Any]) -> list[Table]:
    """List how long utterances are, by group."""
    return [
        Table(
            f"length-{name}", f"Length in {unit}, by group", ("group", *_QUANTILES),
            tuple(
                (text(group), *(number(value, "{:,.4g}") for value in own["quantiles"]))
                for group, own in found["lengths"][name]["groups"].items()
            ),
        )
        for name, unit in _UNITS.items()
    ]  # fmt: skip


def length_figures(found: Mapping[str, Any]) -> list[Figure]:
    """Draw how long utterances are, by group: share of the group in each bin."""
    return [_histogram(name, unit, found["lengths"][name]) for name, unit in _UNITS.items()]


def _histogram(name: str, unit: str, lengths: Mapping[str, Any]) -> Figure:
    import pandas as pd

    from launcher import plots

    drawn = plots.empty_figure(unit, "utterances of the group (%)", height=340)
    edges, rows = lengths["edges"], []
    for (group, own), look in zip(lengths["groups"].items(), plots.style(list(lengths["groups"])).values()):
        total = sum(own["counts"]) or 1
        share = [100 * count / total for count in own["counts"]]
        drawn.add_scatter(
            x=edges, y=[*share, share[-1]], name=plots.label(group), mode="lines", fill="tozeroy", opacity=0.8,
            line={"shape": "hv", "color": look["color"], "width": 2},
            hovertemplate="%{fullData.name}, from %{x:.3g}: %{y:.1f} %<extra></extra>",
        )  # fmt: skip
        rows += [
            {"group": group, "from": low, "to": high, "utterances": count}
            for low, high, count in zip(edges, edges[1:], own["counts"])
        ]
    drawn.update_layout(showlegend=True)
    drawn.update_yaxes(rangemode="tozero")
    caption = f"Length in {unit}, by group. The last step also holds the longest per cent."
    return figure(f"lengths-{name}", caption, drawn, pd.DataFrame(rows), f"{name}.csv")


def leak_table(found: Mapping[str, Any]) -> Table:
    """List what pairs of splits share."""
    head = ("splits", "what", "shared", "utterances of the first", "utterances of the second", "for example")
    rows = tuple(
        (
            text(f"{row['first']}, {row['second']}"), text(row["what"]), whole(row["shared"]),
            whole(row["first_utterances"]), whole(row["second_utterances"]), Cell(str(row["examples"])),
        )
        for row in found["leaks"]
    )  # fmt: skip
    return Table("leaks", "What two splits share", head, rows, "there are not two splits to compare.")


def reject_table(found: Mapping[str, Any]) -> Table:
    """Count what cannot be used, by reason."""
    rows = tuple(
        (
            text(reason),
            whole(count),
            text(", ".join(f"{group} {n:,}" for group, n in found["rejects_by_group"].get(reason, {}).items())),
        )
        for reason, count in found["rejects"].items()
    )
    # What is looked at without being kept has no rejects.parquet; there each one is in a table of its own.
    where = " (each utterance is listed in rejects.parquet)" if found["path"] and rows else ""
    caption = f"What cannot be used, by reason{where}"
    return Table(
        "rejects", caption, ("reason", "utterances", "by group"), rows, "nothing; every utterance can be used."
    )


def rejected_tables(found: Mapping[str, Any]) -> list[Table]:
    """List each utterance that cannot be used, where no store is kept that would."""
    rows = tuple((text(row["utt_id"]), text(row["reason"]), text(row["detail"])) for row in found.get("rejected", ()))
    head = ("utt_id", "reason", "detail")
    return [Table("rejected", "Each utterance that cannot be used", head, rows)] if rows else []


def characters_table(found: Mapping[str, Any]) -> Table:
    """Count transcripts that hold characters for which the English checkpoints have no label."""
    rows = tuple(
        (text(f"{character} (U+{ord(character):04X})"), whole(count))
        for character, count in found["other_characters"].items()
    )
    caption = "Transcripts with characters other than A to Z and ' (English checkpoints have no label for them)"
    return Table("characters", caption, ("character", "utterances"), rows, "none.")
