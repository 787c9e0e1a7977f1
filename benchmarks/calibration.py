"""What the statistics are worth: how often tests reject where there is nothing, how often intervals hold the truth, what both cost.

    python benchmarks/calibration.py [--studies 1000] [--rows 10000000]

Studies are simulated: two variants on the same utterances, half of them single words and half sentences, of speakers who
differ in how well they are understood and in what a variant does for them; each seed moves each variant as a whole. "in
threes" is the bootstrap that draws seeds, speakers and utterances and takes the plain percentiles: what is not done, and why.
"claimed" is the p of the tables, "seen" how often it finds an effect of 4 points, "sign_flip_seen" how often sign flips alone do. A family is
so many variants that all do nothing, against one baseline: how often any has p < 0.05, before and after Holm's method.
The cost is that of 10,000 rounds over 100,000 utterances in 5 seeds, and of a study of so many rows, read file by file.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from launcher.comparisons import comparisons, group_comparisons
from launcher.loss_stats import holm
from launcher.pairing import Pairs, compare
from launcher.significance import LEVEL, claimed, equivalence, mapsswe, mcnemar, over_seeds, sign_flip, two_sided
from launcher.tallies import tally

OUT = Path(__file__).parent / "out" / "calibration.json"
ROUNDS = 500  # of each simulated study: enough for its part in the mean over studies


_LONG = (100, 9)  # utterances of a speaker who says sentences, and words of each


@dataclass(frozen=True)
class World:
    """What simulated studies are drawn from. Effects are of the probability that a word is wrong.

    Attributes:
        speakers: P.
        utterances: of each speaker.
        seeds: K.
        effect: of the variant on everyone.
        of_speakers: standard deviation of what it does to a speaker beyond that.
        of_seeds: standard deviation of what a seed does to the difference.
        words_only: whether every reference is one word.
        long_speakers: how many of the speakers say 100 sentences of 9 words each instead; the others then say single words.
    """

    speakers: int
    utterances: int
    seeds: int
    effect: float = 0.0
    of_speakers: float = 0.0
    of_seeds: float = 0.0
    words_only: bool = False
    long_speakers: int = 0

    def draw(self, rng: np.random.Generator) -> Pairs:
        """Draw a study of two variants."""
        return self.draw_family(rng, 1)[0]

    def draw_family(self, rng: np.random.Generator, variants: int) -> list[Pairs]:
        """Draw a study of so many variants, each paired with the same trials of a baseline."""
        # The utterances of a speaker lie together; the last speakers are the long ones.
        number_P = np.full(self.speakers, self.utterances)
        number_P[self.speakers - self.long_speakers :] = _LONG[0]
        speaker_U = np.repeat(np.arange(self.speakers), number_P)
        words_U = self._words(rng, speaker_U)
        wrong_U = rng.normal(0.4, 0.1, self.speakers)[speaker_U] + rng.normal(0, 0.08, len(speaker_U))
        wrong_U = np.clip(wrong_U, 0.1, 0.7)
        own = self.effect + rng.normal(0, 1, (variants, self.speakers)) * self.of_speakers
        seeds = rng.normal(0, self.of_seeds / math.sqrt(2), (variants + 1, self.seeds, 1))
        *errors, base_errors = (
            rng.binomial(words_U, np.clip(wrong_U + shift, 0, 1)).astype(np.float32)
            for shift in (*(own[k][speaker_U] + seeds[k] for k in range(variants)), seeds[variants])
        )
        words_KU = np.tile(words_U, (self.seeds, 1)).astype(np.float32)
        names = tuple(map(str, range(self.seeds)))
        return [Pairs(names, one, words_KU, base_errors, words_KU, speaker_U, num_dropped=0) for one in errors]

    def _words(self, rng: np.random.Generator, speaker_U: np.ndarray) -> np.ndarray:
        if self.long_speakers:
            return np.where(speaker_U >= self.speakers - self.long_speakers, _LONG[1], 1)
        words_U = rng.integers(3, 9, len(speaker_U))
        words_U[:: 1 if self.words_only else 2] = 1
        return words_U


WORLDS = {
    "1 seed, 8 speakers": World(8, 40, 1, of_speakers=0.04),
    "2 seeds, 15 speakers": World(15, 40, 2, of_speakers=0.04),
    "5 seeds, 8 speakers": World(8, 40, 5, of_speakers=0.04, of_seeds=0.02),
    "5 seeds, 15 speakers": World(15, 40, 5, of_speakers=0.04, of_seeds=0.02),
    "5 seeds, 15 speakers, all alike": World(15, 40, 5),
    "5 seeds, 4 speakers": World(4, 40, 5, of_speakers=0.04, of_seeds=0.02),
    "10 seeds, 30 speakers": World(30, 20, 10, of_speakers=0.04, of_seeds=0.02),
    "5 seeds that differ much, 15 speakers": World(15, 40, 5, of_speakers=0.02, of_seeds=0.04),
    "5 seeds that differ much, 30 speakers": World(30, 20, 5, of_speakers=0.04, of_seeds=0.04),
    "2 seeds that differ much, 15 speakers": World(15, 40, 2, of_speakers=0.02, of_seeds=0.04),
    "1 seed, 1 speaker": World(1, 300, 1),
    "5 seeds, 1 speaker": World(1, 300, 5, of_seeds=0.02),
    "1 seed, 15 speakers, words": World(15, 40, 1, words_only=True),
    "5 seeds, 15 speakers, words": World(15, 40, 5, words_only=True),
    "1 seed, 15 speakers of 40 words and 1 of 900": World(16, 40, 1, of_speakers=0.04, long_speakers=1),
    "1 seed, 15 speakers of 40 words and 2 of 900": World(17, 40, 1, of_speakers=0.04, long_speakers=2),
    "5 seeds, 15 speakers of 40 words and 3 of 900": World(18, 40, 5, of_speakers=0.04, of_seeds=0.02, long_speakers=3),
    "1 seed, 15 speakers of 40 words and 24 of 900": World(39, 40, 1, of_speakers=0.04, long_speakers=24),
}


FAMILIES = ("5 seeds, 15 speakers", "5 seeds that differ much, 15 speakers", "1 seed, 15 speakers, words")


def calibrate(world: World, studies: int, seed: int = 1, *, threes: bool = False) -> dict[str, float]:
    """Return how often each test rejects at 0.05 and how often the interval holds the true effect.

    Args:
        world: what the studies are drawn from.
        studies: how many.
        seed: of the draws.
        threes: whether the bootstrap of three levels is tried as well.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(studies):
        pairs = world.draw(rng)
        found = compare(pairs, ROUNDS)
        assert found is not None  # every utterance has words
        flipped = sign_flip(found.own_P) if pairs.num_speakers > 1 else math.nan
        row = {
            "claimed": _rejects(claimed(flipped, two_sided(found.mean, found.spread))),
            "coverage": found.low <= world.effect <= found.high,
            "sign_flip": _rejects(flipped),
            "over_seeds": _rejects(over_seeds(found.difference_K)[1]),
            "mapsswe": _rejects(mapsswe((pairs.errors_KU - pairs.base_errors_KU).mean(axis=0))[1]),
            "mcnemar": _rejects(mcnemar(pairs.errors_KU > 0, pairs.base_errors_KU > 0)) if pairs.single_words else math.nan,
            "equivalence": _rejects(equivalence(found.mean, found.spread, abs(world.effect) or math.nan)),
            "width": found.high - found.low,
        }  # fmt: skip
        if threes:
            low, high = in_threes(pairs, rng)
            row["coverage_in_threes"] = low <= world.effect <= high
        rows.append(row)
    return {name: float(value) for name, value in pd.DataFrame(rows).astype(float).mean().items()}  # type: ignore[arg-type]


def family(world: World, studies: int, variants: int, seed: int = 1) -> dict[str, float]:
    """Return how often any of so many variants without an effect is found to differ, before and after Holm's method."""
    rng = np.random.default_rng(seed)
    least = []
    for _ in range(studies):
        found = [compare(pairs, 2) for pairs in world.draw_family(rng, variants)]
        p = [claimed(sign_flip(one.own_P), two_sided(one.mean, one.spread)) for one in found if one is not None]
        least.append((min(p) < LEVEL, min(holm(np.array(p))) < LEVEL))
    before, after = np.mean(least, axis=0)
    return {"before": float(before), "after": float(after)}


def _rejects(p: float) -> float:
    return float(p < LEVEL) if math.isfinite(p) else math.nan


def in_threes(pairs: Pairs, rng: np.random.Generator) -> tuple[float, float]:
    """Return plain percentiles over rounds that draw seeds, speakers, and utterances of the drawn speakers."""
    seeds, speakers = pairs.num_seeds, pairs.num_speakers
    difference_KU = pairs.errors_KU - pairs.base_errors_KU
    drawn_RP = rng.multinomial(speakers, np.full(speakers, 1 / speakers), size=ROUNDS)
    errors_RK, words_R = np.zeros((ROUNDS, seeds)), np.zeros(ROUNDS)
    for speaker in range(speakers):
        member = np.flatnonzero(pairs.speaker_U == speaker)
        often = rng.multinomial(drawn_RP[:, speaker] * len(member), np.full(len(member), 1 / len(member))).astype(float)
        errors_RK += often @ difference_KU[:, member].T
        words_R += often @ pairs.words_KU[0, member]
    drawn_RK = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=ROUNDS) / seeds
    low, high = np.quantile((errors_RK / words_R[:, None] * drawn_RK).sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


@click.command()
@click.option("--studies", default=1000, show_default=True, help="Simulated studies of each kind.")
@click.option("--rows", default=10_000_000, show_default=True, help="Rows of the large study; 0 leaves it out.")
def main(studies: int, rows: int) -> None:
    """Measure, print tables, write JSON."""
    found: dict[str, Any] = {"studies": studies, "calibration": {}, "families": {}, "cost": _in_process(_speed)}
    if rows:
        found["cost"] |= _in_process(_large_study, rows)
    for name, value in found["cost"].items():
        print(f"{name:40} {value:,.1f}", flush=True)
    names = (
        "coverage",
        "coverage_in_threes",
        "claimed",
        "sign_flip",
        "over_seeds",
        "mapsswe",
        "mcnemar",
        "seen",
        "sign_flip_seen",
    )
    print(f"\n{'':40}" + "".join(f"{name:>19}" for name in names))
    for name, world in WORLDS.items() if studies else ():
        found["calibration"][name] = rates = calibrate(world, studies, threes=True)
        seen = calibrate(replace(world, effect=-0.04), studies)
        rates |= {"seen": seen["claimed"], "sign_flip_seen": seen["sign_flip"]}
        print(f"{name:40}" + "".join(f"{100 * rates[column]:17.1f} %" for column in names), flush=True)
    for name in FAMILIES if studies else ():
        found["families"][name] = rates = family(WORLDS[name], studies, 4)
        print(
            f"4 variants, {name}: any p < 0.05: {100 * rates['before']:.1f} %, after Holm {100 * rates['after']:.1f} %",
            flush=True,
        )
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(found, indent=1))


def _in_process(work: Any, *arguments: Any) -> dict[str, float]:
    """Run in a process of its own, whose peak memory is that of the work."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _speed() -> dict[str, float]:
    pairs = World(20, 5000, 5, effect=-0.01, of_speakers=0.02, of_seeds=0.01).draw(np.random.default_rng(0))
    started = time.perf_counter()
    compare(pairs, 10_000)
    with_speakers = time.perf_counter()
    one_speaker = Pairs(**{**vars(pairs), "speaker_U": np.zeros(pairs.num_utterances, dtype=int)})
    compare(one_speaker, 10_000)
    return {"rounds_20_speakers_s": with_speakers - started, "rounds_1_speaker_s": time.perf_counter() - with_speakers}


def _large_study(rows: int) -> dict[str, float]:
    """Compare 2 variants x 5 seeds, before and after training: a tenth of the rows in each trial."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory(prefix="lossgrid-calibration-") as scratch:
        results = _write_study(Path(scratch), rows // 20)
        written = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.perf_counter()
        tallied = tally(results, _parts(Path(scratch)), ["group"])
        counted = time.perf_counter()
        comparisons(results, tallied)
        group_comparisons(results, tallied, "group")
        ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"large_rows": rows, "large_tally_s": counted - started, "large_comparisons_s": ended - counted,
            "large_peak_MiB": peak, "of_it_before_MiB": max(before, written)}  # fmt: skip


def _parts(folder: Path) -> Iterator[pd.DataFrame]:
    for path in sorted(folder.glob("*.parquet")):
        yield pd.read_parquet(path)


def _write_study(folder: Path, utterances: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = pd.Series([f"corpus/speaker{k % 100:03d}/utterance{k:08d}" for k in range(utterances)])
    words = rng.integers(1, 12, utterances)
    trials = []
    for variant in ("mean", "sum"):
        for seed in range(5):
            wrong = rng.binomial(words, 0.3)
            final = pd.DataFrame(
                {"trial_id": f"{variant}-{seed}", "phase": "final", "utt_id": names, "speaker": names.str[7:17],
                 "group": np.where(np.arange(utterances) % 2, "word", "sentence"), "substitutions": wrong, "deletions": 0,
                 "insertions": 0, "hits": words - wrong, "char_errors": 3 * wrong, "chars": 5 * words}
            )  # fmt: skip
            pd.concat([final.assign(phase="initial"), final]).to_parquet(folder / f"{variant}-{seed}.parquet")
            trials.append({"trial_id": f"{variant}-{seed}", "variant": variant, "seed": seed, "status": "done",
                           "wer": wrong.sum() / words.sum()})  # fmt: skip
    return pd.DataFrame(trials)


if __name__ == "__main__":
    main()
