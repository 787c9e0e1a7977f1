"""Draw who speaks: bars of 100 % that are cut into classes, beneath the bar of the utterances. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import plotly.graph_objects as go

from launcher import plots

UTTERANCES = "utterances"
OTHERS = "all others"
_READABLE = 0.09  # narrower parts have no room for their number at 390 pixels
_ROW_PIXELS = 34
_MOST_CUT = 4  # classes
_GAP = 0.25  # rows between the utterances and the reductions


def share_bars(rows: pd.DataFrame, reference: pd.Series, bold: list[str]) -> go.Figure:
    """Show each reduction as one bar, cut into what each class has of it.

    Dashed lines carry the cuts of the utterances down through all bars, so that a class that gains or loses is seen
    without reading a number; more than four classes would be hatched by them. Beyond eight classes, the smallest are one.

    Args:
        rows: reduction, class, share (fractions; may be negative), in the order to show.
        reference: class -> share of the utterances.
        bold: reductions to print in bold.
    """
    classes = _folded(reference)
    order = [*dict.fromkeys(rows["reduction"])]
    table = rows.assign(shown=rows["class"].map(classes)).groupby(["reduction", "shown"], sort=False)["share"].sum()
    of_utterances = reference.groupby(reference.index.map(classes), sort=False).sum()
    shown = short_names(order)
    labels = [f"<i>{UTTERANCES}</i>", *(_row_label(shown[name], name in bold) for name in order)]
    figure = plots.empty_figure("share (%), of the gradient signed", "", height=130 + _ROW_PIXELS * len(labels))
    places = [-_GAP, *range(1, len(labels))]
    for rank, name in enumerate(of_utterances.index):
        # Numbers stand at the outer ends, clear of the lines that cross the bars.
        anchor = "start" if rank == 0 else "end" if rank == len(of_utterances) - 1 else "middle"
        shares = [of_utterances[name], *(table.get((reduction, name), 0.0) for reduction in order)]
        figure.add_bar(
            x=[100 * share for share in shares], y=places, orientation="h", name=plots.label(name),
            marker={"color": plots.PALETTE[rank], "line": {"width": 0}},
            text=[f"{100 * share:.0f}" if share >= _READABLE else "" for share in shares],
            textposition="inside", insidetextanchor=anchor, textangle=0, textfont={"color": "#ffffff", "size": 12},
            customdata=labels, hovertemplate="%{customdata}: %{fullData.name} %{x:.1f} %<extra></extra>",
        )  # fmt: skip
    for cut in of_utterances.cumsum().iloc[:-1] if len(of_utterances) <= _MOST_CUT else ():
        # White on black: seen on every colour of the bars and on both backgrounds.
        for color, width, dash in (("#000000", 3.5, "solid"), ("#ffffff", 1.5, "dash")):
            figure.add_shape(
                type="line", x0=100 * cut, x1=100 * cut, y0=-_GAP - 0.5, y1=len(labels) - 0.5,
                line={"color": color, "width": width, "dash": dash},
            )  # fmt: skip
    figure.update_layout(barmode="relative", bargap=0.18, showlegend=True, legend={"traceorder": "normal"})
    figure.update_yaxes(
        tickvals=places, ticktext=labels, range=[len(labels) - 0.45, -_GAP - 0.55], showgrid=False,
        zeroline=False,
    )  # fmt: skip
    figure.update_xaxes(zeroline=False)
    return figure


def short_names(reductions: Iterable[str]) -> dict[str, str]:
    """Write a reduction without its parameters where it is the only one of its name: it has its defaults then."""
    reductions = list(dict.fromkeys(reductions))
    bare = [reduction.partition("(")[0] for reduction in reductions]
    return {full: name if bare.count(name) == 1 else full for full, name in zip(reductions, bare)}


def _folded(reference: pd.Series) -> dict[str, str]:
    """Return the class to show for each class: itself, or all others beyond as many as there are colours."""
    most = len(plots.PALETTE)
    kept = set(reference.index)
    if len(kept) > most:
        kept = set(reference.sort_values(ascending=False, kind="stable").index[: most - 1])
    return {name: name if name in kept else OTHERS for name in reference.index}


def _row_label(reduction: str, bold: bool) -> str:
    """Write parameters on a line of their own, so that the label leaves room for the bar on a phone."""
    name, bracket, parameters = reduction.partition("(")
    text = plots.label(name) + (f"<br>({plots.label(parameters)}" if bracket else "")
    return f"<b>{text}</b>" if bold else text
