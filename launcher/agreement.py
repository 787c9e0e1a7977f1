"""Do two runs of a trial agree? Their hypotheses, losses and scores, utterance by utterance. Pure: data frames in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from launcher.stats import with_columns

COLUMNS = ("phase", "utt_id", "speaker", "split", "hypothesis", "loss")
"""What is read of the utterance tables."""
_SCORES = ("wer", "cer", "nll_per_label")
_KEY = ["phase", "utt_id", "speaker", "split", "place"]
_MOST_SHOWN = 5


@dataclass(frozen=True)
class Agreement:
    """How far two trials agree.

    Attributes:
        one: id of the trial of A.
        other: id of the trial of B; the same id means that nothing that can change a result differs.
        scored: utterances that both scored, before and after training counted each.
        lacking: utterances that only one of them scored.
        hypotheses_differ: of how many of them the hypotheses differ.
        loss: largest difference of a loss, in nats; NaN where losses were not recorded.
        scores_differ: which of wer, cer and nll_per_label differ in any bit.
        first: the first utterances whose hypotheses differ: phase, utt_id, and the hypothesis of a and of b.
    """

    one: str
    other: str
    scored: int
    lacking: int
    hypotheses_differ: int
    loss: float
    scores_differ: tuple[str, ...]
    first: tuple[dict[str, Any], ...] = ()

    @property
    def same_trial(self) -> bool:
        """Whether both have the same id."""
        return self.one == self.other

    @property
    def identical(self) -> bool:
        """Whether nothing differs: no hypothesis, no loss, no score, in any bit."""
        return self.scored > 0 and not (self.lacking or self.hypotheses_differ or self.scores_differ or self.loss > 0)


def agree(
    one: Mapping[str, Any], other: Mapping[str, Any], utterances: pd.DataFrame, other_utterances: pd.DataFrame
) -> Agreement:
    """Compare two trials.

    Args:
        one: row of the results table of A.
        other: that of B.
        utterances: what the trial of A scored, both phases.
        other_utterances: what that of B scored.
    """
    joined = _keyed(utterances).merge(
        _keyed(other_utterances), on=_KEY, how="outer", suffixes=("_a", "_b"), indicator="side"
    )
    both = joined[joined["side"] == "both"]
    said, other_said = (
        both[name].astype(object).where(both[name].notna(), "") for name in ("hypothesis_a", "hypothesis_b")
    )
    differing = both[(said != other_said).to_numpy(dtype=bool)]
    apart = (both["loss_a"].astype(float) - both["loss_b"].astype(float)).abs()
    # Infinite in both is no difference, and missing on one side alone is one.
    apart = apart.where(both["loss_a"] != both["loss_b"], 0.0)
    apart = apart.mask(both["loss_a"].isna() != both["loss_b"].isna(), np.inf)
    first = differing.head(_MOST_SHOWN)
    return Agreement(
        one=str(one["trial_id"]),
        other=str(other["trial_id"]),
        scored=len(both),
        lacking=len(joined) - len(both),
        hypotheses_differ=len(differing),
        loss=float(apart.max()) if apart.notna().any() else float("nan"),
        scores_differ=tuple(name for name in _SCORES if not _equal(one.get(name), other.get(name))),
        first=tuple(
            {"phase": row["phase"], "utt_id": row["utt_id"], "a": row["hypothesis_a"], "b": row["hypothesis_b"]}
            for row in first.to_dict("records")
        ),
    )


def _keyed(table: pd.DataFrame) -> pd.DataFrame:
    """Return what is compared; an utterance that stands twice is told by its place among its equals."""
    table = with_columns(table, COLUMNS)[list(COLUMNS)]
    named = {name: table[name].astype(object).where(table[name].notna(), "").astype(str) for name in _KEY[:-1]}
    table = table.assign(**named)
    return table.assign(place=table.groupby(_KEY[:-1]).cumcount())


def _equal(one: Any, other: Any) -> bool:
    missing = [value is None or pd.isna(value) for value in (one, other)]
    return all(missing) if any(missing) else bool(one == other)
