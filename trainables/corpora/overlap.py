"""What two splits share that they should not: speakers, texts, sound files.

N utterances. Shared speakers are what `dependent` means; shared texts make a test easier than it looks; shared sound is
never meant.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

from trainables.corpora.links import Columns, column, prompt_keys, speaker_keys
from trainables.corpora.splits import SPLITS

_EXAMPLES = 3
_SHOWN_CHARACTERS = 60


def report(columns: Columns) -> list[dict[str, str | int]]:
    """Count what each pair of splits shares.

    Args:
        columns: utt_id, split, speaker and transcript; as far as the data have them also corpus, prompt_id and audio_sha256.

    Returns:
        One row for each pair of splits that have utterances and each of "speaker", "text" and "sound" (if there are
        hashes): first, second, what; shared: how many speakers, texts or sounds are in both; first_distinct and
        second_distinct: how many each has; first_utterances and second_utterances: how many utterances of each are
        of a shared one; second_all: utterances of the second; examples.
    """
    split_N = column(columns, "split")
    whats = {"speaker": speaker_keys(columns), "text": prompt_keys(columns)}
    labels = {"speaker": column(columns, "speaker"), "text": column(columns, "transcript")}
    if "audio_sha256" in columns:
        whats["sound"], labels["sound"] = column(columns, "audio_sha256"), column(columns, "utt_id")
    present = [split for split in SPLITS if split in split_N]
    return [
        _row(what, first, second, _places(keys_N, split_N), labels[what])
        for first, second in combinations(present, 2)
        for what, keys_N in whats.items()
    ]


def lines(columns: Columns) -> list[str]:
    """Say in one line each what pairs of splits share; nothing is said of what they do not share."""
    return [
        f"{row['first']} and {row['second']} share {row['shared']} {row['what']}{'s' if row['shared'] != 1 else ''}: "
        f"{row['second_utterances']} of {row['second_all']} utterances of {row['second']} (for example {row['examples']})"
        for row in report(columns)
        if row["shared"]
    ]


Places = dict[str, dict[str, list[int]]]


def _places(keys_N: list[str], split_N: list[str]) -> Places:
    places: Places = defaultdict(lambda: defaultdict(list))
    for place, (key, split) in enumerate(zip(keys_N, split_N)):
        if key:
            places[split][key].append(place)
    return places


def _row(what: str, first: str, second: str, places: Places, labels: list[str]) -> dict[str, str | int]:
    one, two = places[first], places[second]
    shared = sorted(one.keys() & two.keys())
    return {
        "first": first,
        "second": second,
        "what": what,
        "shared": len(shared),
        "first_distinct": len(one),
        "second_distinct": len(two),
        "first_utterances": sum(len(one[key]) for key in shared),
        "second_utterances": sum(len(two[key]) for key in shared),
        "second_all": sum(map(len, two.values())),
        "examples": ", ".join(_shown(min(labels[place] for place in two[key])) for key in shared[:_EXAMPLES]),
    }


def _shown(label: str) -> str:
    return label if len(label) <= _SHOWN_CHARACTERS else label[: _SHOWN_CHARACTERS - 3] + "..."
