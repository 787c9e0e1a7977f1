"""Named splits: which utterances are trained on, validated on and tested on, decided by hashes of names.

The order of the rows, the machine and Python's own hashes have no say. N utterances; a split is "train", "validation",
"test" or "" (not used).

- `dependent`: speakers shared, utterances split 80/10/10 within each speaker: exactly, so that each is in all three, which
  is why one utterance more or less can move another (`trainables.usage` sees to it that models do not). Sentences are
  shared too: speakers read the same ones, and UA-Speech repeats its common words. The leak report counts them.
- `independent`: a quarter of the speakers held out, spread over corpora, groups, severities and first languages; every
  other one of them validates, the rest tests.
- `zero-shot`: trained on controls and second-language speakers; dysarthric speakers validate and test, no speaker both.
- `prompts`: by text, 80/10/10: no sentence or word in two splits. The split of a text is the same in every corpus.
- `speakers`: by speaker, 80/10/10, spread as in `independent`.
- `blocks`: UA-Speech: B1 and B3 train, B2 test; a tenth of the texts of B1 and B3 validates.
- `loso(speaker=NAME)`: one speaker tests; a tenth of the texts of all others validates.
- `loso-prompts(speaker=NAME)`: the same, without any text of that speaker in train and validation.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable
from itertools import groupby

from trainables.corpora.links import Columns, column, prompt_keys, speaker_keys, unit_keys
from trainables.errors import DataError
from trainables.selection import is_control, is_dysarthric, is_l2, original_name

SPLITS = ("train", "validation", "test")
#: What they look at, as far as the data have it.
COLUMNS = (
    "utt_id", "speaker", "corpus", "transcript", "group", "speaker_type", "prompt_id", "block", "session", "severity", "l1",
    "audio_sha256",
)  # fmt: skip
_SPELLING = re.compile(r"\s*([a-z-]+)\s*(?:\((.*)\))?\s*", re.IGNORECASE)
# The first three are a kind of speaker, of each of which the same share is held out.
_STRATA, _KIND = ("corpus", "speaker_type", "group", "severity", "l1"), 3
_TRAIN_BLOCKS, _TEST_BLOCKS = frozenset({"B1", "B3"}), frozenset({"B2"})


def assign(spelling: str, columns: Columns) -> list[str]:
    """Split utterances.

    Args:
        spelling: one of the names above, with its argument.
        columns: utt_id, speaker, corpus and transcript; as far as the data have them also group, speaker_type,
            prompt_id, block, session, severity, l1 and audio_sha256.

    Returns:
        split_N; one of the three may stay empty when there are few texts or speakers (see `checked`).

    Raises:
        DataError: no such split, or a missing, unknown or superfluous argument.
    """
    name, arguments = parse(spelling)
    return _RULES[name][0](columns, **arguments)


def checked(spelling: str, columns: Columns) -> list[str]:
    """Split utterances as `assign` does, for a study: none of the three may be empty.

    Raises:
        DataError: as `assign`, and when train, validation or test has no utterance.
    """
    split_N = assign(spelling, columns)
    if empty := [split for split in SPLITS if split not in split_N]:
        raise DataError(
            f"split {spelling!r} leaves {' and '.join(empty)} without utterances: the data have {len(split_N)} utterances, "
            f"{len(set(speaker_keys(columns)))} speakers, {len(set(prompt_keys(columns)))} texts; "
            f"use another split ({', '.join(spellings())}) or more data"
        )
    return split_N


def parse(spelling: str) -> tuple[str, dict[str, str]]:
    """Take `name(key=value)` apart.

    Raises:
        DataError: no such split, or other arguments than it has.
    """
    match = _SPELLING.fullmatch(spelling)
    name = match[1].casefold() if match else ""
    if match is None or name not in _RULES:
        raise DataError(f"split {spelling!r} is unknown; choose one of: {', '.join(spellings())}")
    parts = [part.partition("=") for part in (match[2] or "").split(",") if part.strip()]
    arguments = {key.strip(): value.strip() for key, _, value in parts}
    wanted = _RULES[name][1]
    if set(arguments) != set(wanted) or len(parts) != len(wanted) or not all(arguments.values()):
        raise DataError(f"split {spelling!r}: write {_spelt(name)}")
    return name, arguments


def spellings() -> list[str]:
    """List the splits as they are written."""
    return [_spelt(name) for name in _RULES]


def by_prompt(columns: Columns) -> list[str]:
    """Split 80/10/10 by text, each by itself (`prompts`); an importer's default where there is no official split."""
    return [_by_hash(key) for key in prompt_keys(columns)]


def by_block(columns: Columns) -> list[str]:
    """Split by block (`blocks`); an utterance without a block is not used."""
    texts = prompt_keys(columns)
    return [
        "test" if block in _TEST_BLOCKS else _validation_tenth(text) if block in _TRAIN_BLOCKS else ""
        for block, text in zip((block.upper() for block in column(columns, "block")), texts)
    ]


def _dependent(columns: Columns) -> list[str]:
    speakers, units = speaker_keys(columns), unit_keys(columns)
    of_speaker: dict[str, set[str]] = defaultdict(set)
    for speaker, unit in sorted(zip(speakers, units)):
        of_speaker[speaker].add(unit)
    split: dict[str, str] = {}
    for speaker in sorted(of_speaker):
        ordered = sorted(of_speaker[speaker], key=_hash)
        tenth = (len(ordered) + 5) // 10
        for place, unit in enumerate(ordered):
            # A sound file that two speakers share is one unit; the first of them decides.
            split.setdefault(unit, "test" if place < tenth else "validation" if place < 2 * tenth else "train")
    return [split[unit] for unit in units]


def _independent(columns: Columns) -> list[str]:
    return _by_speaker(columns, held_out_of_hundred=25)


def _speakers(columns: Columns) -> list[str]:
    return _by_speaker(columns, held_out_of_hundred=20)


def _zero_shot(columns: Columns) -> list[str]:
    places = range(len(columns["utt_id"]))
    speakers = speaker_keys(columns)
    dysarthric = {speakers[place] for place in places if is_dysarthric(columns, place)}
    halves = {
        speaker: SPLITS[1 + number % 2]
        for number, speaker in enumerate(speaker for speaker in _spread(columns) if speaker in dysarthric)
    }
    trained = [is_control(columns, place) or is_l2(columns, place) for place in places]
    return [halves.get(speakers[place], "train" if trained[place] else "") for place in places]


def _loso(columns: Columns, speaker: str) -> list[str]:
    tested = _named(columns, speaker)
    return [
        "test" if who == tested else _validation_tenth(text)
        for who, text in zip(speaker_keys(columns), prompt_keys(columns))
    ]


def _loso_prompts(columns: Columns, speaker: str) -> list[str]:
    texts, split_N = prompt_keys(columns), _loso(columns, speaker)
    read = {text for text, split in zip(texts, split_N) if split == "test"}
    return [split if split == "test" or text not in read else "" for text, split in zip(texts, split_N)]


_RULES: dict[str, tuple[Callable[..., list[str]], tuple[str, ...]]] = {
    "dependent": (_dependent, ()),
    "independent": (_independent, ()),
    "zero-shot": (_zero_shot, ()),
    "prompts": (by_prompt, ()),
    "speakers": (_speakers, ()),
    "blocks": (by_block, ()),
    "loso": (_loso, ("speaker",)),
    "loso-prompts": (_loso_prompts, ("speaker",)),
}


def _by_speaker(columns: Columns, *, held_out_of_hundred: int) -> list[str]:
    """Hold out the same share of each corpus and kind, at even steps of a list with similar speakers side by side."""
    speakers = _spread(columns)
    kinds = [
        [speaker for speaker, _ in members] for _, members in groupby(speakers.items(), lambda item: item[1][:_KIND])
    ]
    total = min(len(speakers), max(2, (len(speakers) * held_out_of_hundred + 50) // 100))
    chosen: list[str] = []
    seen = 0
    for members in kinds:
        seen += len(members)
        # Rounded over all kinds so far: kinds of one or two speakers give their share together.
        count = (2 * seen * total + len(speakers)) // (2 * len(speakers)) - len(chosen)
        chosen += [members[(2 * number + 1) * len(members) // (2 * count)] for number in range(count)]
    split = {speaker: ("test", "validation")[number % 2] for number, speaker in enumerate(chosen)}
    return [split.get(speaker, "train") for speaker in speaker_keys(columns)]


def _spread(columns: Columns) -> dict[str, list[list[str]]]:
    """List the speakers so that those of one corpus, kind, severity and first language stand side by side.

    Returns:
        speaker -> values of each of `_STRATA`. A group may be a property of utterances (word, sentence): all that a
        speaker has are named.
    """
    of_speaker: dict[str, list[set[str]]] = {}
    for speaker, *values in zip(speaker_keys(columns), *(column(columns, name) for name in _STRATA)):
        for seen, value in zip(of_speaker.setdefault(speaker, [set() for _ in _STRATA]), values):
            seen.add(value)
    strata = {speaker: [sorted(seen) for seen in values] for speaker, values in of_speaker.items()}
    return dict(sorted(strata.items(), key=lambda item: (item[1], _hash(item[0]))))


def _named(columns: Columns, name: str) -> str:
    """Find a speaker by the name in the data, or by the name that the corpus gives where only one has it."""
    known: dict[str, set[str]] = defaultdict(set)
    for speaker, key in zip(column(columns, "speaker"), speaker_keys(columns)):
        known[speaker].add(key)
    short = {speaker for speaker in known if name.casefold() in (speaker.casefold(), original_name(speaker).casefold())}
    found = {name} if name in known else short
    if len(found) != 1:
        problem = "more than one speaker is meant" if found else "the data have no such speaker; they have"
        raise DataError(f"speaker={name!r}: {problem}: {', '.join(sorted(found or known))}")
    keys = known[found.pop()]
    if len(keys) > 1:
        raise DataError(f"speaker={name!r}: {len(keys)} corpora have a speaker of this name; give them different names")
    return keys.pop()


def _spelt(name: str) -> str:
    arguments = _RULES[name][1]
    return f"{name}({', '.join(f'{argument}=NAME' for argument in arguments)})" if arguments else name


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _tenth(key: str) -> int:
    return int.from_bytes(_hash(key)[:8], "big") * 10 >> 64


def _by_hash(key: str) -> str:
    return {0: "test", 1: "validation"}.get(_tenth(key), "train")


def _validation_tenth(key: str) -> str:
    return "validation" if _tenth(key) == 1 else "train"
