"""How long the trials that are missing will take: from those that are done, or from a probe. Pure.

Seconds of a trial are taken to grow with its work, the utterances that it passes in training.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, NamedTuple

Sections = Mapping[str, Mapping[str, Any]]
TRAINER, TRAINING, MODEL = "Trainer Arguments", "Training Configuration", "Model Configuration"
ASSUMED_START_UP_SECONDS = {"train": 10.0, "tune": 1.0}
"""Time from one trial to the next on the same device where none was measured; Ray Train starts a process for each."""
_LONGEST_START_UP_SECONDS = 120.0  # a longer gap is a pause between two launches
_QUANTILE_FROM = 10
_EPOCHS, _BATCH = 3.0, 8  # transformers' own defaults
_USAGE = ("split", "debug_dataset", "filter_controls", "filter_datasets", "l2_speakers")


class Spread(NamedTuple):
    """Seconds: the low end, the middle, the high end."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Sample:
    """What one trial took.

    Attributes:
        sections: its configuration.
        seconds: of the whole trial without start-up; a probe knows a spread.
    """

    sections: Sections
    seconds: Spread


@dataclass(frozen=True)
class Missing:
    """A trial that is to run.

    Attributes:
        sections: its configuration.
        rest: the part of it that is left, 0 to 1; less than 1 where it goes on from a checkpoint.
    """

    sections: Sections
    rest: float = 1.0


@dataclass(frozen=True)
class Time:
    """Time that is left.

    Attributes:
        seconds: until the last trial has ended.
        unknown: trials of a kind that was not measured; they are not counted.
        start_up_seconds: added for each trial.
        start_up_measured: whether those were measured, not assumed.
    """

    seconds: Spread
    unknown: int
    start_up_seconds: float
    start_up_measured: bool


def samples_of(sections: Mapping[str, Sections], rows: Mapping[str, Mapping[str, Any]]) -> list[Sample]:
    """Take the trials that are done as samples; of one that was resumed only its last attempt was timed, so not that.

    Args:
        sections: configuration of each trial, by id.
        rows: what became of each.
    """
    return [
        Sample(sections[name], Spread(row["seconds"], row["seconds"], row["seconds"]))
        for name, row in rows.items()
        if row["status"] == "done" and row.get("seconds") and not row.get("resumed")
    ]


def time_left(
    missing: Sequence[Missing], samples: Sequence[Sample], *, concurrent: int, start_up: float | None, assumed: float,
    train_utterances: int | None, first: float = 0.0,
) -> Time:  # fmt: skip
    """Add up what is missing.

    Args:
        missing: in the order in which they will run.
        samples: what is known.
        concurrent: trials at a time.
        start_up: seconds from one trial to the next on the same device, where they were measured.
        assumed: those that stand in where they were not.
        first: seconds before the first trial on each device can begin, where they are known.
        train_utterances: of the data; only matters where some trials count epochs and others updates.

    Returns:
        the range as if all were like the fastest and the slowest of their samples (of ten or more: the 10th and the
        90th per cent).
    """
    rates = _rates(samples, train_utterances)
    each = assumed if start_up is None else start_up
    durations: list[Spread] = []
    unknown = 0
    for trial in missing:
        rate = next((rates[key] for key in _kinds(trial.sections) if key in rates), None)
        if rate is None:
            unknown += 1
            continue
        scale = work(trial.sections, train_utterances) * trial.rest
        durations.append(Spread(*(scale * value + each for value in rate)))
    spans = (makespan((one[place] for one in durations), concurrent, first) for place in range(3))
    return Time(Spread(*spans), unknown, each, start_up is not None)


def is_known(sections: Sections, samples: Iterable[Sample]) -> bool:
    """Tell whether a trial with the same model was measured; what another model takes says nothing of it."""
    return any(_kinds(sample.sections)[-1] == _kinds(sections)[-1] for sample in samples)


def work(sections: Sections, train_utterances: int | None) -> float:
    """Return the utterances that a trial passes in training, as planned; 1 where nothing is trained."""
    given = sections[TRAINER]
    if given.get("do_train") is False:
        return 1.0
    data = train_utterances or 1
    steps = given.get("max_steps") or -1
    return float(steps * update_size(sections)) if steps > 0 else given.get("num_train_epochs", _EPOCHS) * data


def update_size(sections: Sections) -> int:
    """Return the utterances of one update."""
    given = sections[TRAINER]
    return int(given.get("per_device_train_batch_size", _BATCH)) * int(given.get("gradient_accumulation_steps", 1))


def updates(sections: Sections, train_utterances: int | None) -> int | None:
    """Return the updates that a trial will make; None where that depends on filters of its data."""
    given = sections[TRAINER]
    if given.get("do_train") is False:
        return 0
    if (given.get("max_steps") or -1) > 0:
        return int(given["max_steps"])
    if train_utterances is None or any(sections[TRAINING].get(name) for name in _USAGE):
        return None
    return math.ceil(given.get("num_train_epochs", _EPOCHS) * math.ceil(train_utterances / update_size(sections)))


def start_up(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Measure the time from the end of a trial to the start of the next on its device.

    The device that is free first takes the next trial, so each start belongs to the earliest end that has none yet.

    Returns:
        the median, in seconds; None without such a pair.
    """
    rows = [row for row in rows if row.get("started") and row.get("finished")]
    starts, ends = ([_seconds(row[name]) for row in rows] for name in ("started", "finished"))
    waiting, gaps = deque(sorted(ends)), []
    for start in sorted(starts):
        while waiting and start - waiting[0] > _LONGEST_START_UP_SECONDS:
            waiting.popleft()
        if waiting and waiting[0] <= start:
            gaps.append(start - waiting.popleft())
    return median(gaps) if gaps else None


def makespan(durations: Iterable[float], concurrent: int, first: float = 0.0) -> float:
    """Return when the last trial ends, each given to the device that is free first; all are from `first` on."""
    free = [first] * concurrent
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _rates(samples: Sequence[Sample], train_utterances: int | None) -> dict[Any, Spread]:
    """Return seconds per unit of work for each kind of trial, from the narrowest kind to the widest."""
    found: dict[Any, list[Spread]] = defaultdict(list)
    for sample in samples:
        scale = work(sample.sections, train_utterances)
        rate = Spread(*(value / scale for value in sample.seconds)) if scale else sample.seconds
        for key in _kinds(sample.sections):
            found[key].append(rate)
    return {key: _spread(rates) for key, rates in found.items()}


def _spread(rates: Sequence[Spread]) -> Spread:
    lows, middles, highs = (sorted(values) for values in zip(*rates, strict=True))
    edge = len(rates) // 10 if len(rates) >= _QUANTILE_FROM else 0
    return Spread(lows[edge], median(middles), highs[-1 - edge])


def _kinds(sections: Sections) -> tuple[Any, ...]:
    """Tell what kind of trial this is, as to cost: the narrowest first."""
    given, training, model = (sections[name] for name in (TRAINER, TRAINING, MODEL))
    trains = given.get("do_train") is not False
    usage = repr([training.get(name) for name in (*_USAGE, "load_model", "audit", "audit_exact", "test_set")])
    precision = (given.get("bf16"), given.get("fp16"), update_size(sections))
    start = (trains, model.get("model_type"), model.get("pretrained_model_name"))
    return (start, usage, precision, repr(model)), (start, usage), start
