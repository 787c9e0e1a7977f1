"""How far runs of the same cell with the same seed differ: below this floor, differences between variants say nothing.

Pure: data frames in, figures and words out. WER and CER are fractions, losses are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from launcher.stats import finite, is_repeat, with_columns
from launcher.tallies import Tally

_SCORES = ("wer", "cer", "nll_per_label")
_MADE_WITH = {
    "machine": ("node", "device", "workers", "threads"),
    "code": ("git_sha", "git_patch", "mixed_code"),
    "versions": ("python", "packages"),
}


@dataclass(frozen=True)
class NoiseFloor:
    """What the runs of one cell with one seed differ by.

    Attributes:
        variant: the cell.
        seed: of all runs.
        runs: how many were asked for.
        measured: how many finished with a WER.
        others: what became of the others, as in `1 failed`.
        wer: largest difference of WER between two runs; NaN with fewer than two measured.
        wer_sd: standard deviation of WER (divisor n - 1).
        cer: largest difference of CER.
        nll_per_label: largest difference of NLL per label.
        utterances: how many were scored by every measured run.
        hypotheses_differ: of how many of them not all runs have the same hypothesis.
        loss: largest difference of the loss of an utterance; NaN where losses were not recorded.
        exact: whether all scores, hypotheses and losses are equal bit for bit; None with fewer than two measured.
        one_cpu_machine: whether all measured runs were made on the CPUs of one machine.
        made_differently: what else differs between them, of machine, code and versions: then it is not noise alone.
    """

    variant: str
    seed: int
    runs: int
    measured: int
    others: str
    wer: float
    wer_sd: float
    cer: float
    nll_per_label: float
    utterances: int
    hypotheses_differ: int
    loss: float
    exact: bool | None
    one_cpu_machine: bool
    made_differently: tuple[str, ...] = ()

    def hides(self, difference: float) -> bool:
        """Tell whether a difference of WER is no larger than between equal runs."""
        return hidden(difference, self.wer)

    def sentence(self) -> str:
        """Say it in one line."""
        cell = f"{self.variant}, seed {self.seed}"
        over = f"{self.measured} of {self.runs} runs" if self.measured < self.runs else f"{self.runs} runs"
        over = f"{over} of the same cell with the same seed ({cell}{'; ' + self.others if self.others else ''})"
        if self.exact is None:
            return f"noise floor: not known, two runs are needed: a WER has {over}"
        if self.exact:
            return f"noise floor: 0: runs repeat bit for bit here, over {over}"
        parts = [
            f"noise floor: WER differs by at most {_points(self.wer)} points, sd {_points(self.wer_sd)}, over {over}",
            f"{self.hypotheses_differ:,} of {self.utterances:,} hypotheses differ",
            f"the NLL per label differs by up to {self.nll_per_label:.2g} nats",
        ]
        if self.made_differently:
            parts.append(f"not all were made with the same {' and '.join(self.made_differently)}")
        elif self.one_cpu_machine:
            parts.append("on the CPUs of one machine runs should repeat bit for bit, and these do not")
        return "; ".join(parts)


def noise_floor(results: pd.DataFrame, utterances: pd.DataFrame) -> NoiseFloor | None:
    """Compare the runs of the cell that was run several times with the same seed.

    Args:
        results: one row per requested trial.
        utterances: the utterance table; only final-phase rows are used; may be empty.

    Returns:
        None when no cell was asked for several times.
    """
    table = with_columns(
        results, ["trial_id", "variant", "seed", "status", "repeat", *_SCORES, *sum(_MADE_WITH.values(), ())]
    )
    runs = equal_runs(table)
    if runs.empty:
        return None
    done = runs[runs["status"] == "done"]
    done = done.loc[finite(done["wer"]).index]
    states = runs.drop(done.index)["status"].replace("done", "without a WER").value_counts()
    spread = {name: _range(finite(done[name])) for name in _SCORES}
    scored, differing, loss = _compare(utterances, done)
    return NoiseFloor(
        variant=str(runs["variant"].iloc[0]),
        seed=int(runs["seed"].iloc[0]),
        runs=len(runs),
        measured=len(done),
        others=", ".join(f"{number} {state}" for state, number in states.items()),
        wer=spread["wer"],
        wer_sd=float(finite(done["wer"]).std(ddof=1)),
        cer=spread["cer"],
        nll_per_label=spread["nll_per_label"],
        utterances=scored,
        hypotheses_differ=differing,
        loss=loss,
        exact=_exact(done, differing, loss) if len(done) > 1 else None,
        one_cpu_machine=_differ(done, "node", "device") is False and done["device"].iloc[0] == "cpu",
        made_differently=tuple(name for name, columns in _MADE_WITH.items() if _differ(done, *columns)),
    )


def hidden(difference: float, floor: float) -> bool:
    """Tell whether a difference of WER is no larger than a floor above 0; NaN is no floor."""
    # A sum of fractions may be off in its last bit.
    return bool(floor > 0 and abs(difference) <= floor + 1e-12)


def floor_by_class(tallied: Tally, column: str) -> dict[str, float]:
    """Return the largest difference of corpus WER between equal runs in each class of a column; of two runs at least.

    Args:
        tallied: the scores of the equal runs, each counted as a trial of its own; has the column.
        column: whose classes are looked at.
    """
    classes = tallied.classes(column)
    found = {}
    for value in classes.cat.categories:
        member_U = (classes == value).to_numpy()
        errors_T, words_T = (np.nansum(table[:, member_U], axis=1) for table in (tallied.errors, tallied.words))
        rate_T = errors_T[words_T > 0] / words_T[words_T > 0]
        if len(rate_T) > 1:
            found[str(value)] = float(rate_T.max() - rate_T.min())
    return found


def equal_runs(results: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of the one cell and seed that was asked for several times; none where there is no such cell."""
    table = with_columns(results, ["trial_id", "variant", "seed", "status", "repeat", *_SCORES])
    repeats = table[is_repeat(table)]
    if repeats.empty:
        return repeats
    return table[(table["variant"] == repeats["variant"].iloc[0]) & (table["seed"] == repeats["seed"].iloc[0])]


def _compare(utterances: pd.DataFrame, done: pd.DataFrame) -> tuple[int, int, float]:
    """Return how many utterances all runs scored, how many hypotheses differ, and the largest difference of a loss."""
    table = with_columns(utterances, ["trial_id", "phase", "utt_id", "split", "hypothesis", "loss"])
    final = (table["phase"] == "final") & table["trial_id"].isin(done["trial_id"])
    rows = table.loc[final, ["utt_id", "split", "hypothesis", "loss"]].astype({"loss": float})
    cells = rows.groupby(["utt_id", "split"], dropna=False)
    shared = cells.size() == len(done)
    if len(done) < 2 or not shared.any():
        return int(shared.sum()), 0, float("nan")
    hypotheses = cells["hypothesis"].nunique(dropna=False)[shared]
    losses = (cells["loss"].max() - cells["loss"].min())[shared]
    return int(shared.sum()), int((hypotheses > 1).sum()), float(losses.max())


def _exact(done: pd.DataFrame, differing: int, loss: float) -> bool:
    same = all(done[name].nunique(dropna=False) == 1 for name in _SCORES)
    return same and differing == 0 and not loss > 0


def _differ(runs: pd.DataFrame, *columns: str) -> bool | None:
    """Return whether some of the columns differ between runs; None without runs."""
    return bool(len(runs[list(columns)].drop_duplicates()) > 1) if len(runs) else None


def _range(values: pd.Series) -> float:
    return float(values.max() - values.min()) if len(values) > 1 else float("nan")


def _points(fraction: float) -> str:
    return f"{fraction * 100:.2g}"


def as_json(floor: NoiseFloor | None) -> dict[str, Any] | None:
    """Return the figures for JSON, with the sentence; what was not measured is null."""
    if floor is None:
        return None
    known = {name: None if isinstance(value, float) and not np.isfinite(value) else value
             for name, value in vars(floor).items()}  # fmt: skip
    return {**known, "sentence": floor.sentence()}
