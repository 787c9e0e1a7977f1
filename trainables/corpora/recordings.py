"""What an importer finds in a corpus as researchers have it on disk; preparation turns it into a store.

An importer is a module of this package with `find(root, options) -> Found` and `OPTIONS`, what it can be asked for. It
reads names and transcripts only: audio is decoded by preparation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# How Python shows the bytes of a file name that are not UTF-8.
_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF


def readable(text: str) -> str:
    r"""Write what is no character as `\xe9` (a byte of a name that is not UTF-8) or `\ud83d` (half of a pair).

    The same on every machine; all other text stays as it is.
    """
    return text if text.isascii() else _LONE_SURROGATE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if _FIRST_BYTE <= code <= _LAST_BYTE else f"\\u{code:04x}"


@dataclass(frozen=True)
class Recording:
    """One utterance; names are kept `readable`.

    Attributes:
        utt_id: unique within the corpus.
        audio: references of its sound files (`references.read`); of several the mean of the channels is taken.
        transcript: what was said, as the corpus has it; one that is not readable is rejected by preparation.
        speaker: who speaks.
        corpus: name of the corpus.
        group: dysarthric, l2 or control, or the classes of the corpus itself.
        split: train, validation or test.
        more: further columns: speaker_type, severity, l1, gender, prompt_id, session, mic, block ...; "" where unknown.
    """

    utt_id: str
    audio: tuple[str, ...]
    transcript: str
    speaker: str
    corpus: str
    group: str
    split: str
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("utt_id", "speaker", "corpus", "group"):
            object.__setattr__(self, name, readable(getattr(self, name)))
        object.__setattr__(self, "more", {name: readable(value) for name, value in self.more.items()})


@dataclass(frozen=True)
class Rejected:
    """One utterance that cannot be used, known before its audio was read; what is said of it is kept `readable`.

    Attributes:
        utt_id: its name.
        reason: one word or two with underscores, counted on screen.
        detail: a sentence, with the file.
        speaker: who speaks, as far as known.
        group: as in `Recording`.
        split: as in `Recording`.
    """

    utt_id: str
    reason: str
    detail: str
    speaker: str = "unknown"
    group: str = "unknown"
    split: str = "train"

    def __post_init__(self) -> None:
        for name in ("utt_id", "detail", "speaker", "group"):
            object.__setattr__(self, name, readable(getattr(self, name)))


@dataclass(frozen=True)
class Found:
    """All that an importer found, in an order that does not depend on the file system.

    Attributes:
        recordings: what can be used, as far as names and transcripts tell.
        rejects: what cannot.
        notes: what a person should know: missing sessions, layouts, word lists.
    """

    recordings: tuple[Recording, ...]
    rejects: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
