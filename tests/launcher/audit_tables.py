"""Audits of the invented study: shares that follow from invented gradients, so that they add up as real ones do."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from tests.launcher.report_tables import Tables, study_tables

# Reduction -> weight from labels, frames and loss.
WEIGHTS = {
    "sum": lambda u, t, x: np.ones_like(x),
    "mean": lambda u, t, x: 1 / u,
    "utterance_mean": lambda u, t, x: np.ones_like(x),
    "token_mean": lambda u, t, x: np.ones_like(x),
    "per_frame": lambda u, t, x: 1 / t,
    "sqrt_length": lambda u, t, x: u**-0.5,
    "power(alpha=0.25)": lambda u, t, x: u**-0.25,
    "capped(limit=3.0)": lambda u, t, x: np.minimum(1, 3 * u / x),
    "focal(gamma=2.0)": lambda u, t, x: (1 - np.exp(-x / u)) ** 2,
    "group_temperature(temperature=5.0)": lambda u, t, x: np.where(u < 12, 1.3, 0.8),
}


@cache
def audited_tables(num_seeds: int = 3) -> Tables:
    """Return the invented study with shares, exact shares and losses of audited utterances."""
    tables = study_tables(num_seeds=num_seeds)
    shares, exact, audit = [], [], []
    for trial in tables.results.to_dict("records"):
        for phase in ("initial", "final")[: 1 + (trial["status"] == "done")]:
            # Trials of a seed start from the same model.
            key = [trial["seed"]] if phase == "initial" else [trial["seed"], *map(ord, trial["reduction"])]
            utterances, gradient_NP = _utterances(np.random.default_rng(key), trained=phase == "final")
            head = {"trial_id": trial["trial_id"], "phase": phase}
            part = _shares(utterances, gradient_NP).assign(**head)
            shares.append(part)
            exact.append(_exact(part))
            audit.append(utterances.assign(**head))
    return replace(tables, shares=pd.concat(shares), exact=pd.concat(exact), audit=pd.concat(audit))


def _utterances(rng: np.random.Generator, *, trained: bool) -> tuple[pd.DataFrame, np.ndarray]:
    number = np.arange(120)
    sentence = number % 5 < 3
    labels = np.where(sentence, 24 + number % 17, 3 + number % 6)
    frames = np.where(sentence, 90 + 3 * labels, 40 + 9 * labels)
    per_label = rng.gamma(4, 0.2 if trained else 0.9, number.size) * np.where(sentence, 0.8, 1.5)
    towards = np.where(sentence[:, None], [1.0, 0.3, 0.0], [0.2, 1.0, 0.0])
    gradient_NP = (towards + rng.normal(0, 0.3, towards.shape)) * (per_label * labels**0.7)[:, None]
    frame = pd.DataFrame(
        {
            "utt_id": [f"a{one:03d}" for one in number],
            "group": np.where(sentence, "sentence", "word"),
            "speaker_type": np.where(number % 8 < 4, "dysarthric", "control"),
            "speaker": [f"S{one % 8}" for one in number],
            "split": "train",
            "duration_seconds": frames / 50,
            "loss": per_label * labels,
            "labels": labels,
            "frames": frames,
            "feasible": True,
        }
    )
    return frame, gradient_NP


def _shares(frame: pd.DataFrame, gradient_NP: np.ndarray) -> pd.DataFrame:
    bins = pd.Series(np.where(frame["labels"] < 6, "3-5", np.where(frame["labels"] < 20, "6-8", "24-40")))
    classes = {"group": frame["group"], "speaker_type": frame["speaker_type"], "length": bins}
    labels_N, loss_N = frame["labels"].to_numpy(float), frame["loss"].to_numpy(float)
    rows = []
    for reduction, weigh in WEIGHTS.items():
        weight_N = weigh(labels_N, frame["frames"].to_numpy(float), loss_N)
        total_P = weight_N @ gradient_NP
        for column, values in classes.items():
            names = list(dict.fromkeys(values))
            parts = {name: (weight_N * (values == name)) @ gradient_NP for name in names}
            norms = sum(float(np.linalg.norm(part)) for part in parts.values())
            for name, part_P in parts.items():
                chosen = (values == name).to_numpy()
                rest_P = total_P - part_P
                rows.append(
                    {
                        "reduction": reduction,
                        "column": column,
                        "class": name,
                        "utterances": int(chosen.sum()),
                        "utterance_share": chosen.mean(),
                        "label_share": labels_N[chosen].sum() / labels_N.sum(),
                        "second_share": frame["frames"][chosen].sum() / frame["frames"].sum(),
                        "value": float(weight_N @ loss_N),
                        "loss_share": (weight_N * loss_N)[chosen].sum() / (weight_N @ loss_N),
                        "gradient_norm_share": np.linalg.norm(part_P) / norms,
                        "gradient_share": part_P @ total_P / (total_P @ total_P),
                        "cosine_to_rest": part_P @ rest_P / (np.linalg.norm(part_P) * np.linalg.norm(rest_P)),
                        "gradient_left": float(np.linalg.norm(total_P)) / norms,
                        "mean_loss": loss_N[chosen].mean(),
                    }
                )
    return pd.DataFrame(rows)


def _exact(shares: pd.DataFrame) -> pd.DataFrame:
    keys = shares[["trial_id", "phase", "reduction", "column", "class", "utterances"]]
    measures = {
        f"{name}_{kind}": shares[name] + (0.01 if kind == "exact" else 0.0)
        for name in ("gradient_norm_share", "gradient_share")
        for kind in ("cheap", "exact")
    }
    agreement = {
        "norm_pearson": 0.98, "norm_spearman": 0.97, "cosine": 0.4, "cosines_pearson": 0.9, "largest_difference": 0.01
    }  # fmt: skip
    return keys.assign(**measures, **agreement)
