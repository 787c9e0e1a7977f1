"""Small tables of scored trials, for the tests of statistics."""

from __future__ import annotations

import numpy as np
import pandas as pd


def trials(*rows: tuple[str, int, str, float]) -> pd.DataFrame:
    """Return results from (variant, seed, status, wer)."""
    table = pd.DataFrame(rows, columns=["variant", "seed", "status", "wer"])
    return table.assign(trial_id=[f"{variant}-{seed}" for variant, seed, *_ in rows])


def scored(trial_id: str, errors: list[int], words: list[int], speakers: list[str] | None = None) -> pd.DataFrame:
    """Return final-phase utterances whose errors are all substitutions."""
    names = speakers or [f"S{k}" for k in range(len(errors))]
    return pd.DataFrame(
        {
            "trial_id": trial_id,
            "phase": "final",
            "utt_id": [f"u{k}" for k in range(len(errors))],
            "speaker": names,
            "group": "word",
            "substitutions": errors,
            "deletions": 0,
            "insertions": 0,
            "hits": np.array(words) - np.array(errors),
            "char_errors": errors,
            "chars": words,
        }
    )
