"""Say which utterances a loss listens to: each class's part of the gradient beside its part of the utterances.

Pure: data frames in, data frames and words out. Shares are fractions. The gradient shares of the classes of a column are
signed and add up to 1: that of a class that pulls against the others is negative, and theirs then pass 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from launcher.stats import with_columns

CELL = "cell"
"""Column that says which of the models of a study a row is of, where more varies than reduction and seed."""
PHASES = {"initial": "Before training", "final": "After training", "measured": "As it stands"}
_KEYS = ["phase", "reduction", "column", "class"]
_SHARES = ["utterance_share", "label_share", "second_share", "loss_share", "gradient_norm_share", "gradient_share",
           "cosine_to_rest", "gradient_left", "mean_loss"]  # fmt: skip
_LEAST_LEFT = 0.3  # of two gradients of equal length: their cosine is then -0.82
_SAME = 0.005  # shares closer than half a per cent are written alike
_PULLS, _IS_PULLED_AT = "it pulls against the rest", "the rest pulls against it"
_SIGNED = "These shares are signed: those of all classes add up to 100 %."
_MOST_NAMED = 4  # reductions of different shares in the sentence


def own_reductions(results: pd.DataFrame) -> dict[str, str]:
    """Return the reduction that each trial is trained with, by trial id, in the order of the study.

    What a trial says that it used goes before what was asked of it: `dataset_loss_weighting` makes a weighted reduction
    of `mean`, with names that only the data know.
    """
    table = with_columns(results, ["trial_id", "config", "reduction_used"])
    asked = table["reduction"] if "reduction" in table.columns else table["config"].map(_configured)
    known = table["reduction_used"].where(table["reduction_used"].notna(), asked)
    pairs = zip(table["trial_id"], known, strict=True)
    return {str(trial): reduction for trial, reduction in pairs if isinstance(reduction, str)}


def _configured(config: Any) -> str | None:
    return json.loads(config)["Model Configuration"]["reduction"] if isinstance(config, str) else None


def cells(results: pd.DataFrame, axes: Sequence[str]) -> dict[str, str]:
    """Say of which models each trial is: its values on all axes that vary beside reduction and seed.

    Args:
        results: the trials, with a column per axis.
        axes: names of the axes of the study.

    Returns:
        trial id -> cell, for example `model_type=tiny`, in the order of the study; empty where nothing else varies.
    """
    table = with_columns(results, ["trial_id"])
    names = [name for name in axes if name not in ("reduction", "seed") and name in table.columns]
    varied = [name for name in names if table[name].astype(str).nunique() > 1]
    if not varied:
        return {}
    return {
        str(row["trial_id"]): ", ".join(f"{name}={row[name]}" for name in varied) for row in table.to_dict("records")
    }


def shares_by_cell(
    shares: pd.DataFrame, results: pd.DataFrame, axes: Sequence[str], baseline: str | None = None
) -> dict[str, pd.DataFrame]:
    """Average the shares over models of one kind: what the study varies beside reduction and seed is kept apart.

    Args:
        shares: the table of shares of all trials; may be empty.
        results: the trials.
        axes: names of the axes of the study.
        baseline: variant whose cell comes first.

    Returns:
        cell -> `mean_shares` of its trials, with the cell as first column; cells without shares are left out. Where
        nothing else varies, one entry with an empty name and no such column.
    """
    if shares.empty:
        return {}
    cell_of = cells(results, axes)
    if not cell_of:
        return {"": mean_shares(shares, results)}
    of_trial, of_row = results["trial_id"].map(cell_of), shares["trial_id"].map(cell_of)
    first = baseline_cell(results, cell_of, baseline)
    found = {}
    for cell in dict.fromkeys([*filter(None, [first]), *cell_of.values()]):
        if (of_row == cell).any():
            means = mean_shares(shares[of_row == cell], results[of_trial == cell])
            means.insert(0, CELL, cell)
            found[cell] = means
    return found


def baseline_cell(results: pd.DataFrame, cell_of: dict[str, str], baseline: str | None) -> str | None:
    """Return the cell of a variant; None where the study has no such variant."""
    trials = with_columns(results, ["trial_id", "variant"])
    of_baseline = trials.loc[trials["variant"] == baseline, "trial_id"]
    return None if baseline is None or of_baseline.empty else cell_of.get(str(of_baseline.iloc[0]))


def mean_shares(shares: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Average the shares over models; give it models of one kind.

    Before training, trials that start from the same model have the same numbers and count once. After training, a
    reduction of the study is taken on the models that it trained, any other on all trained models. Where nothing was
    trained, the models are `measured` as they stand, and no reduction is the study's own.

    Args:
        shares: the table of shares of all trials; may be empty.
        results: the trials.

    Returns:
        phase, reduction, column, class, own (a reduction of the study), models, utterances, the mean of each share,
        gradient_low and gradient_high (over models), factor (gradient share / utterance share), cancels (see `_cancels`:
        gradient_share is the median over models then, and there is no factor); the reductions of the study first,
        classes in the order of the table.
    """
    nothing_trained = only_measured(results)
    own = {} if nothing_trained else own_reductions(results)
    table = with_columns(shares, ["trial_id", *_KEYS, "utterances", *_SHARES]).reset_index(drop=True)
    table = table.assign(trained=table["trial_id"].map(own), own=table["reduction"].isin(list(own.values())))
    table[["utterances", *_SHARES]] = table[["utterances", *_SHARES]].astype(float)
    initial = table[table["phase"] == "initial"]
    alike = initial[["utterances", *_SHARES]].round(9).assign(**{name: initial[name] for name in _KEYS})
    initial = initial[~alike.duplicated().to_numpy()]
    final = table[(table["phase"] == "final") & (~table["own"] | (table["trained"] == table["reduction"]))]
    cells = pd.concat([initial, final]).groupby([*_KEYS, "own"], sort=False)
    found = cells[["utterances", *_SHARES]].mean()
    found["models"] = cells["trial_id"].nunique()
    found["gradient_low"], found["gradient_high"] = cells["gradient_share"].min(), cells["gradient_share"].max()
    found["cancels"] = _cancels(table.loc[[*initial.index, *final.index]], found)
    found["gradient_share"] = found["gradient_share"].mask(found["cancels"], cells["gradient_share"].median())
    if nothing_trained:
        found = found.rename(index={"final": "measured"}, level="phase")
    found["factor"] = found["gradient_share"] / found["utterance_share"].where(found["utterance_share"] > 0)
    found["factor"] = found["factor"].mask(found["cancels"])
    rank = {name: place for place, name in enumerate([*own.values(), *table["reduction"].unique()][::-1])}
    return found.reset_index().sort_values("reduction", key=lambda names: -names.map(rank), kind="stable")


def _cancels(table: pd.DataFrame, found: pd.DataFrame) -> pd.Series:
    """Say where a part of the gradient means nothing: the gradients of the classes cancel in a model.

    A signed share divides by the square of what is left of all gradients together. That is small after training, just for
    the reduction that was trained with: shares of single models are then anything, and their mean is no share of any. What
    is left is judged by the length that gradients of no common direction would have, so that many classes do not count
    as cancelling for their number. Of tables that do not tell it, by shares of one class that have both signs over models.

    Args:
        table: rows of single models, numbered uniquely.
        found: what was made of them, by phase, reduction, column and class.
    """
    model = [table[name] for name in ("trial_id", "phase", "reduction", "column")]
    at_right_angles = (table["gradient_norm_share"] ** 2).groupby(model, sort=False).transform("sum") ** 0.5
    little = table["gradient_left"] < _LEAST_LEFT * 2**0.5 * at_right_angles
    models = pd.DataFrame({"little": little, "untold": table["gradient_left"].isna()})
    any_by_class = models.groupby([table[name] for name in _KEYS], sort=False).any()
    at = pd.MultiIndex.from_arrays([found.index.get_level_values(name) for name in _KEYS], names=_KEYS)
    is_little_N, is_untold_N = any_by_class.reindex(at).to_numpy(dtype=bool).T
    both_signs = (found["gradient_low"] < -_SAME) & (found["gradient_high"] > _SAME)
    here = pd.Series(is_little_N | (is_untold_N & both_signs.to_numpy(dtype=bool)), found.index)
    return here.groupby(level=_KEYS[:3], sort=False).transform("any").astype(bool)


def only_measured(results: pd.DataFrame) -> bool:
    """Return whether the finished trials of a study trained nothing."""
    updates = with_columns(results, ["updates"])["updates"].dropna()
    return len(updates) > 0 and not updates.astype(float).any()


def ordered_columns(means: pd.DataFrame, groups: list[str]) -> list[str]:
    """Return the columns that were audited: those of the study first, then the others."""
    present = list(means["column"].unique())
    return [*(name for name in groups if name in present), *(name for name in present if name not in groups)]


def sentence(means: pd.DataFrame, column: str) -> str:
    """Say in words who gets the gradient, for the class on which the reductions of the study differ most.

    Args:
        means: `mean_shares`, not empty.
        column: an audited column.
    """
    rows = means[(means["column"] == column) & means["gradient_share"].notna()]
    named = rows[rows["own"]]
    if named["reduction"].nunique() < 2:  # nothing to compare with, so the two that everybody knows join in
        named = rows[rows["own"] | rows["reduction"].isin(["sum", "mean"])]
    named = rows if named.empty else named
    if named.empty:
        return f"No gradient share of {column} could be measured."
    first_phase = named[named["phase"] == named["phase"].iloc[0]]
    first_phase = first_phase.sort_values("utterance_share", ascending=False, kind="stable")  # of equals, the largest
    first_phase = first_phase.assign(
        told=first_phase["gradient_share"].mask(first_phase["cancels"], first_phase["gradient_norm_share"])
    )
    shares = first_phase.groupby("class", sort=False)["told"]
    spread = shares.max() - shares.min()
    if spread.max() < _SAME:
        spread = (first_phase["told"] - first_phase["utterance_share"]).abs().groupby(
            first_phase["class"], sort=False
        ).max()  # fmt: skip
    chosen = named[named["class"] == spread.round(9).idxmax()]
    told = [_phase_words(part, PHASES[str(phase)]) for phase, part in chosen.groupby("phase", sort=False)]
    beyond = [_PULLS in words or _IS_PULLED_AT in words for words in told]
    return " ".join([*told, *([_SIGNED] if any(beyond) else [])])


def _phase_words(rows: pd.DataFrame, when: str) -> str:
    """Write what there is to say of one class in one phase: its shares, or why there are none."""
    cancels = rows["cancels"].astype(bool)
    told = [write(part, when) for part, write in ((rows[~cancels], _share_words), (rows[cancels], _cancelled_words))
            if len(part)]  # fmt: skip
    return " ".join(told)


def _cancelled_words(rows: pd.DataFrame, when: str) -> str:
    """Write of reductions under which no share can be told what of the lengths of gradients the class has."""
    rows = rows.sort_values("gradient_norm_share", ascending=False, kind="stable")
    records = rows.to_dict("records")
    between = len(records) > _MOST_NAMED
    told = [records[0], records[-1]] if between else records
    numbers = [
        f"{_whole_percent(row['gradient_norm_share'])} under {row['reduction']}" + _cosine(row["cosine_to_rest"])
        for row in told
        if pd.notna(row["gradient_norm_share"])
    ]
    names, utterances = [str(row["reduction"]) for row in records], float(rows["utterance_share"].mean())
    text = f"{when}, the gradients of the classes cancel under {_listed(names)}, so that no share can be told"
    if numbers:
        text += f"; of their lengths {_quoted(rows['class'].iloc[0])} has {_listed(numbers)}, with {_whole_percent(utterances)} of the utterances"
    return text + ("; the others lie between." if between else ".")


def _cosine(value: float) -> str:
    return f" (cosine to the rest {value:+.2f})".replace("-", "\N{MINUS SIGN}") if pd.notna(value) else ""


def _quoted(name: str) -> str:
    return f"\N{LEFT DOUBLE QUOTATION MARK}{name}\N{RIGHT DOUBLE QUOTATION MARK}"


def _share_words(rows: pd.DataFrame, when: str) -> str:
    """Write one sentence on one class in one phase, the greatest share first."""
    rows = rows.sort_values("gradient_share", ascending=False, kind="stable")
    by_share: dict[tuple[str, str], list[str]] = {}
    for row in rows.to_dict("records"):
        by_share.setdefault(_signed_share(row["gradient_share"]), []).append(str(row["reduction"]))
    told = list(by_share.items())
    between = len(told) > _MOST_NAMED
    told = [told[0], told[-1]] if between else told
    ((share, why), names), *others = told
    utterances = _whole_percent(float(rows["utterance_share"].mean()))
    text = f"{when}, {_listed(names)} {_give(names)} {_quoted(rows['class'].iloc[0])} {share} of the gradient with {utterances} of the utterances{why}"
    text += "".join(f"; {_listed(names)} {_give(names)} it {share}{why}" for (share, why), names in others)
    return text + ("; the others lie between." if between else ".")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _give(names: list[str]) -> str:
    return "gives" if len(names) == 1 else "give"


def _whole_percent(fraction: float) -> str:
    return f"{round(fraction * 100)} %".replace("-", "\N{MINUS SIGN}")


def _signed_share(fraction: float) -> tuple[str, str]:
    """Write a share of the gradient, and of one that no part of a whole can have the reason why."""
    whole = round(fraction * 100)
    return _whole_percent(fraction), f" ({_PULLS})" if whole < 0 else f" ({_IS_PULLED_AT})" if whole > 100 else ""
