"""What an importer finds in a corpus as researchers have it on disk; preparation turns it into a store.

An importer is a module of this package with `find(root, options) -> Found` and `OPTIONS`, what it can be asked for. It
reads names and transcripts only: audio is decoded by preparation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recording:
    """One utterance.

    Attributes:
        utt_id: unique within the corpus.
        audio: references of its sound files (`references.read`); of several the mean of the channels is taken.
        transcript: what was said, as the corpus has it.
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


@dataclass(frozen=True)
class Rejected:
    """One utterance that cannot be used, known before its audio was read.

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
