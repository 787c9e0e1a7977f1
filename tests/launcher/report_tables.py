"""Tables of an invented study, for the tests of statistics, plots and report: no training, no audio."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Reduction -> chance of a word error.
VARIANTS = {"mean": 0.62, "sum": 0.48, "sqrt_length": 0.41, "per_frame": 0.55}
WORDS = "the quick brown fox jumps over a lazy dog while seven quiet children read their new letters".split()
EMPTY = pd.DataFrame()


@dataclass(frozen=True)
class Tables:
    """A study and its tables."""

    study: dict[str, Any]
    results: pd.DataFrame
    utterances: pd.DataFrame
    history: pd.DataFrame
    rejects: pd.DataFrame
    shares: pd.DataFrame = field(default_factory=pd.DataFrame)
    exact: pd.DataFrame = field(default_factory=pd.DataFrame)
    audit: pd.DataFrame = field(default_factory=pd.DataFrame)


def study_tables(num_utterances: int = 80, num_seeds: int = 2, seed: int = 7) -> Tables:
    """Return 4 variants x `num_seeds`, half words and half sentences of 8 speakers; the last trial failed."""
    rng = np.random.default_rng(seed)
    utterances, history, results = [], [], []
    for reduction, chance in VARIANTS.items():
        for number in range(1, num_seeds + 1):
            trial_id = f"{reduction}-{number}-{len(results):08x}"
            failed = reduction == "per_frame" and number == num_seeds
            history.append(_history(rng, trial_id, chance, 40 if failed else 120))
            if not failed:
                utterances.append(_utterances(rng, trial_id, chance, num_utterances))
            scored = pd.DataFrame() if failed else utterances[-1]
            results.append(_result(rng, trial_id, reduction, number, scored))
    return Tables(
        _study(num_utterances, num_seeds),
        pd.DataFrame(results),
        pd.concat(utterances, ignore_index=True),
        pd.concat(history, ignore_index=True),
        _rejects(),
    )


def with_repeats(tables: Tables, wers: list[float], differing: int = 0) -> Tables:
    """Add further runs of the first trial of `mean`: their WER, and how many hypotheses of each differ from it."""
    first = tables.results[tables.results["variant"] == "reduction=mean"].iloc[0]
    rows, said, logged = [], [tables.utterances], [tables.history]
    for repeat, wer in enumerate(wers, start=1):
        trial_id = f"mean-1-r{repeat}-{repeat:08x}"
        rows.append({**first, "trial_id": trial_id, "repeat": repeat, "wer": wer})
        own = tables.utterances[tables.utterances["trial_id"] == first["trial_id"]].assign(trial_id=trial_id)
        changed = own.index[own["phase"] == "final"][:differing]
        own.loc[changed, "hypothesis"] = f"run {repeat}"
        said.append(own)
        logged.append(tables.history[tables.history["trial_id"] == first["trial_id"]].assign(trial_id=trial_id))
    results = pd.concat([tables.results.assign(repeat=0), pd.DataFrame(rows)], ignore_index=True)
    return replace(
        tables, results=results, utterances=pd.concat(said, ignore_index=True),
        history=pd.concat(logged, ignore_index=True),
    )  # fmt: skip


def write_study(tables: Tables, folder: Path) -> Path:
    """Write the tables as the folder of a study: study.json, and what each trial leaves."""
    trials = []
    for row in tables.results.to_dict("records"):
        known = {name: value for name, value in row.items() if not (isinstance(value, float) and np.isnan(value))}
        place = folder / "trials" / row["trial_id"]
        place.mkdir(parents=True)
        (place / ("result.json" if row["status"] == "done" else "failure.json")).write_text(json.dumps(known))
        (place / "attempts.json").write_text(json.dumps({"attempts": 1}))
        for part in ("utterances", "history"):
            frame: pd.DataFrame = getattr(tables, part)
            frame[frame["trial_id"] == row["trial_id"]].to_parquet(place / f"{part}.parquet", index=False)
        trials.append(
            {"trial_id": row["trial_id"], "variant": row["variant"], "seed": row["seed"], "repeat": int(row["repeat"]),
             "axes": {"reduction": row["reduction"], "seed": row["seed"]}, "configuration": {}}
        )  # fmt: skip
    (folder / "study.json").write_text(json.dumps({**tables.study, "trials": trials}))
    return folder


def _utterances(rng: np.random.Generator, trial_id: str, chance: float, num_utterances: int) -> pd.DataFrame:
    rows = []
    for number in range(num_utterances):
        speaker = number % 8
        sentence = number % 2
        reference = [WORDS[(number * 5 + k) % len(WORDS)] for k in range(6 + number % 5 if sentence else 1)]
        wrong = rng.random(len(reference)) < min(0.95, chance * (1.4 if speaker < 4 else 0.7))
        deleted = wrong & (rng.random(len(reference)) < 0.3)
        said = [w[::-1] if bad else w for w, bad, gone in zip(reference, wrong, deleted, strict=True) if not gone]
        inserted = int(rng.random() < 0.05)
        rows.append(
            {
                "trial_id": trial_id,
                "phase": "final",
                "utt_id": f"utt{number:04d}",
                "corpus": "sample",
                "group": "sentence" if sentence else "word",
                "speaker_type": "dysarthric" if speaker < 4 else "control",
                "speaker": f"S{speaker}",
                "split": "test",
                "duration_seconds": 0.4 + 0.35 * len(reference),
                "loss": 4.0 * len(reference),
                "labels": 5 * len(reference),
                "frames": 20 + 17 * len(reference),
                "reference": " ".join(reference),
                "hypothesis": " ".join([*said, *["uh"] * inserted]),
                "substitutions": int((wrong & ~deleted).sum()),
                "deletions": int(deleted.sum()),
                "insertions": inserted,
                "hits": int((~wrong).sum()),
                "char_errors": int(3 * wrong.sum() + 2 * inserted),
                "chars": len(" ".join(reference)),
            }
        )
    final = pd.DataFrame(rows)
    initial = final.assign(
        phase="initial",
        hypothesis="",
        substitutions=0,
        insertions=0,
        deletions=final["deletions"] + final["substitutions"] + final["hits"],
        hits=0,
    )
    return pd.concat([initial, final], ignore_index=True)


def _history(rng: np.random.Generator, trial_id: str, chance: float, num_updates: int) -> pd.DataFrame:
    update = np.arange(1, num_updates + 1)
    nll = 0.6 + 24 * np.exp(-update / 12) + chance * 2 + rng.normal(0, 0.12, num_updates)
    evaluated = update % 20 == 0
    return pd.DataFrame(
        {
            "trial_id": trial_id,
            "update": update,
            "epoch": update / 30,
            "loss": nll * 9,
            "nll_per_label": nll,
            "learning_rate": 1e-4,
            "grad_norm": 3 + 30 * np.exp(-update / 20) + rng.exponential(1.0, num_updates),
            "clip_fraction": 0.4,
            "padding_fraction": 0.12,
            "eval_nll_per_label": np.where(evaluated, nll + 0.3, np.nan),
            "eval_wer": np.where(evaluated, nll / 25 + chance * 0.9, np.nan),
            "eval_cer": np.where(evaluated, chance / 2 + np.exp(-update / 40), np.nan),
        }
    )


def _result(
    rng: np.random.Generator, trial_id: str, reduction: str, seed: int, utterances: pd.DataFrame
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "trial_id": trial_id,
        "study": "losses",
        "variant": f"reduction={reduction}",
        "reduction": reduction,
        "seed": seed,
        "status": "failed",
        "error": "ValueError: loss is NaN at update 41 of <lr=1e-2> & friends",
        "attempts": 2,
        "data_fingerprint": "ab12cd34",
        "git_sha": "0f3c2d1",
        "node": "node-0",
    }
    if utterances.empty:
        return row
    final = utterances[utterances["phase"] == "final"]
    words = final[["substitutions", "deletions", "hits"]].to_numpy().sum()
    return row | {
        "status": "done",
        "error": None,
        "attempts": 1,
        "wer": final[["substitutions", "deletions", "insertions"]].to_numpy().sum() / words,
        "cer": final["char_errors"].sum() / final["chars"].sum(),
        "nll_per_label": 0.8 + rng.random(),
        "clip_fraction": rng.random(),
        "grad_norm": 3 + 2 * rng.random(),
        "padding_fraction": 0.08 + 0.04 * rng.random(),
        "audio_seconds_per_second": 55 + 10 * rng.random(),
        "updates": 120,
        "seconds": 61 + 9 * rng.random(),
        "peak_memory_bytes": 800_000_000,
    }


def _study(num_utterances: int, num_seeds: int) -> dict[str, Any]:
    return {
        "study": "losses",
        "question": "Does a summed CTC loss let sentences drown the single words of dysarthric speakers?",
        "created": "2026-03-01T10:00:00+00:00",
        "command": f"python launch.py --grid losses --set seed={','.join(map(str, range(1, num_seeds + 1)))}",
        "axes": {"reduction": list(VARIANTS), "seed": list(range(1, num_seeds + 1))},
        "baseline": "reduction=mean",
        "groups": ["group", "speaker_type"],
        "data": {
            "source": "sample",
            "fingerprint": "ab12cd34",
            "utterances": 612,
            "hours": 0.21,
            "counts": [
                {"split": "train", "group": "word", "utterances": 300, "seconds": 200.1},
                {"split": "train", "group": "sentence", "utterances": 232, "seconds": 480.9},
                {"split": "test", "group": "word", "utterances": num_utterances // 2, "seconds": 28.4},
                {"split": "test", "group": "sentence", "utterances": num_utterances // 2, "seconds": 121.0},
            ],
            "rejects": {"too_short": 2, "unreadable": 1},
        },
        "environment": {
            "python": "3.11.7",
            "torch": "2.13.0",
            "ray": "2.60.0",
            "transformers": "5.23.0",
            "git_sha": "0f3c2d1",
            "cpu_count": 2,
        },
    }


def _rejects() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "utt_id": ["utt9001", "utt9002", "utt9003"],
            "reason": ["too_short", "too_short", "unreadable"],
            "detail": ["4 frames for 9 labels", "0 frames for 3 labels", "not a <RIFF> file"],
            "split": ["train", "train", None],
            "group": ["word", "word", None],
        }
    )
