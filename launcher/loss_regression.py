"""Regress losses on length and group by least squares, with errors that bear unequal spread and shared speakers. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from launcher.loss_files import Losses

_LEAST_FREEDOM = 1e-8  # 1 - leverage below this is rounding; HC3 divides the residual by it


def regress(losses: Losses, *, clustered: bool) -> tuple[pd.DataFrame, list[str]]:
    """Regress loss on length and group: what a group's losses are above those of another at equal length.

    A group of one utterance would be fitted exactly, which leaves no error to estimate, so it is left out. Where length
    varies apart from the groups in one utterance only, that one is fitted exactly too, and there is no regression.

    Args:
        losses: the losses; the first group is the one that others are compared with.
        clustered: whether errors are clustered by speaker; else they are HC3.

    Returns:
        The table (term, coefficient, standard_error, low, high: 95 %, t, p, r_squared, errors; empty where there is no
        regression), and notes that say what was left out or why there is none.

    Reference: MacKinnon and White 1985, https://doi.org/10.1016/0304-4076(85)90158-7 (HC3); statsmodels fits it.
    """
    sizes = losses.frame["group"].value_counts()
    tiny = [str(name) for name in sizes.index if sizes[name] < 2]
    notes = [f"The regression leaves out groups of one utterance: {', '.join(tiny)}."] if tiny else []
    frame = losses.frame[~losses.frame["group"].isin(tiny)]
    design = _design(frame, [str(name) for name in losses.frame["group"].cat.categories if name not in tiny])
    if len(frame) <= design.shape[1] or np.linalg.matrix_rank(design.to_numpy()) < design.shape[1]:
        return pd.DataFrame(), [*notes, "There is no regression: length does not vary apart from the groups."]
    if frame["loss"].nunique() == 1:
        return pd.DataFrame(), [*notes, "There is no regression: all losses are equal."]
    if (_leverage(design) > 1 - _LEAST_FREEDOM).any():
        alone = "There is no regression: length varies apart from the groups in one utterance only"
        return pd.DataFrame(), [*notes, f"{alone}, which leaves no error to estimate."]
    speaker_N = pd.factorize(frame["speaker"])[0] if clustered else None
    if speaker_N is not None and speaker_N.max() < design.shape[1]:
        few = f"There is no regression: {speaker_N.max() + 1} speakers are too few for {design.shape[1]} terms."
        return pd.DataFrame(), [*notes, few]
    return _fit(frame["loss"].to_numpy(dtype=float), design, speaker_N), notes


def _design(frame: pd.DataFrame, groups: list[str]) -> pd.DataFrame:
    """Lay out the terms: intercept, length, and each group against the first."""
    columns = {"intercept": np.ones(len(frame)), "length (each label)": frame["length"].to_numpy(dtype=float)}
    columns |= {f"{name} (against {groups[0]})": (frame["group"] == name).to_numpy() * 1.0 for name in groups[1:]}
    return pd.DataFrame(columns)


def _leverage(design: pd.DataFrame) -> np.ndarray:
    """Return how far each row determines its own fit, [N]: 1 where it is fitted exactly, whatever its loss is."""
    x_NK = design.to_numpy(dtype=float)
    basis_NK, _ = np.linalg.qr(x_NK / np.abs(x_NK).max(axis=0))
    return (basis_NK**2).sum(axis=1)


def _fit(loss_N: np.ndarray, design: pd.DataFrame, speaker_N: np.ndarray | None) -> pd.DataFrame:
    # Loading it takes seconds, and most commands never fit anything.
    from statsmodels.regression.linear_model import OLS

    robust: dict[str, Any] = {"cov_type": "HC3", "use_t": True}
    if speaker_N is not None:
        robust |= {"cov_type": "cluster", "cov_kwds": {"groups": speaker_N}}
    fit: Any = OLS(loss_N, design.to_numpy()).fit(**robust)
    low, high = np.asarray(fit.conf_int()).T
    return pd.DataFrame(
        {
            "term": list(design.columns),
            "coefficient": fit.params,
            "standard_error": fit.bse,
            "low": low,
            "high": high,
            "t": fit.tvalues,
            "p": fit.pvalues,
            "r_squared": fit.rsquared,
            "errors": "HC3" if speaker_N is None else "clustered by speaker",
        }
    )
