"""Which utterances of a store a trial uses: without controls, without some corpora, or only a fraction of them.

Every rule is applied to all splits alike, by names and not by seed, so that the trials of a study see the same
utterances.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.errors import DataError

#: Columns that say what kind of speaker somebody is, in the order in which they are asked.
KIND_COLUMNS = ("speaker_type", "group")
_CONTROL, _L2 = frozenset({"control", "controls"}), frozenset({"l2"})
_DYSARTHRIC = frozenset({"dysarthric", "dysarthria"})
# What the importers put before the names of a corpus, so that those of several do not collide (both M01).
_PREFIX = re.compile(r"(?:UA|TORGO|L2|SAP)-", re.IGNORECASE)
# Control speakers of TORGO (FC01, MC02) and UA-Speech (CF03, CM05) by their names, with and without the letter that the
# original experiment put before them; its `to` and `ua` are these corpora too, but not a corpus `toronto`.
_CONTROL_SPEAKER = (
    (re.compile(r"torgo|to(?![a-z])", re.IGNORECASE), re.compile(r"T?[FM]C\d", re.IGNORECASE)),
    (re.compile(r"ua[-_ ]?speech|ua(?![a-z])", re.IGNORECASE), re.compile(r"U?C[FM]\d", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Selection:
    """What of a store is used.

    Attributes:
        filter_controls: leave control speakers out.
        filter_datasets: corpora to leave out.
        l2_speakers: of the second-language speakers, use only these; empty: all.
        debug_dataset: share of each split that is used, stratified by speaker, at least one utterance of each; None: all.
    """

    filter_controls: bool = False
    filter_datasets: tuple[str, ...] = ()
    l2_speakers: tuple[str, ...] = ()
    debug_dataset: float | None = None

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> Selection:
        """Read the keys of [Training Configuration]."""
        return cls(
            filter_controls=bool(training.get("filter_controls")),
            filter_datasets=tuple(training.get("filter_datasets") or ()),
            l2_speakers=tuple(training.get("l2_speakers") or ()),
            debug_dataset=training.get("debug_dataset") or None,
        )

    def kept(self, columns: Mapping[str, Sequence[Any]]) -> list[int]:
        """Return the places of the utterances that are used.

        Args:
            columns: utt_id, split, speaker, corpus and those of `KIND_COLUMNS` that the data have, one value each.

        Raises:
            DataError: a corpus or speaker that the data do not have.
        """
        places = list(range(len(columns["utt_id"])))
        if self.filter_datasets:
            dropped = self._corpora(columns["corpus"])
            places = [place for place in places if columns["corpus"][place] not in dropped]
        if self.filter_controls:
            places = [place for place in places if not is_control(columns, place)]
        if self.l2_speakers:
            wanted = self._speakers(columns)
            places = [place for place in places if not is_l2(columns, place) or columns["speaker"][place] in wanted]
        return places if self.debug_dataset is None else self._fraction(columns, places)

    def without_effect(self, columns: Mapping[str, Sequence[Any]]) -> list[str]:
        """Say which rules change nothing on these data."""
        every = range(len(columns["utt_id"]))
        found = []
        if self.filter_controls and not any(is_control(columns, place) for place in every):
            found.append(
                "filter_controls = True changes nothing: no speaker of these data is a control (speaker_type or group is "
                "`control`, or a control of TORGO or UA-Speech by name)"
            )
        return found

    def _corpora(self, corpus_N: Sequence[str]) -> set[str]:
        """Find the corpora that are meant: by their whole name, since `torgo` and `torgo_clean` may both be there."""
        known = sorted(set(corpus_N))
        return {_corpus(name, known) for name in self.filter_datasets}

    def _speakers(self, columns: Mapping[str, Sequence[Any]]) -> set[str]:
        speakers = {columns["speaker"][place] for place in range(len(columns["utt_id"])) if is_l2(columns, place)}
        if not speakers:
            raise DataError(
                f"l2_speakers = {', '.join(self.l2_speakers)}: no speaker of these data is a second-language speaker "
                "(speaker_type or group is `l2`); leave the key out"
            )
        # The original put an L before the names of L2-ARCTIC, the importer L2-.
        plain = {speaker: original_name(speaker) for speaker in sorted(speakers)}
        spelt = {f"L{name}": speaker for speaker, name in plain.items()}
        spelt |= {name: speaker for speaker, name in plain.items()} | {speaker: speaker for speaker in speakers}
        if unknown := [name for name in self.l2_speakers if name not in spelt]:
            raise DataError(
                f"l2_speakers: the data have no second-language speaker {', '.join(unknown)}; they have: "
                f"{', '.join(sorted(speakers))}"
            )
        return {spelt[name] for name in self.l2_speakers}

    def _fraction(self, columns: Mapping[str, Sequence[Any]], places: Sequence[int]) -> list[int]:
        assert self.debug_dataset is not None
        strata: dict[tuple[str, str], list[int]] = defaultdict(list)
        for place in places:
            strata[columns["split"][place], columns["speaker"][place]].append(place)
        chosen = []
        for members in strata.values():
            members.sort(key=lambda place: hashlib.sha256(columns["utt_id"][place].encode()).digest())
            chosen += members[: max(1, round(self.debug_dataset * len(members)))]
        return sorted(chosen)


def _corpus(name: str, known: Sequence[str]) -> str:
    """Find the corpus of this name; one that differs in case, hyphens, underscores and spaces alone is that one too."""
    if name in known:
        return name
    alike = [corpus for corpus in known if _plain(corpus) == _plain(name)]
    if len(alike) > 1:
        raise DataError(f"filter_datasets = {name!r} may be {' or '.join(alike)}; spell it as the data do")
    if not alike:
        # The original compared the first two letters, so its files may hold no more than these.
        near = [corpus for corpus in known if _plain(corpus)[:2] == _plain(name)[:2]]
        raise DataError(
            f"filter_datasets = {name!r}: the data have no such corpus; they have: {', '.join(known)}"
            + (f"; did you mean {', '.join(near)}?" if near else "")
        )
    return alike[0]


def _plain(corpus: str) -> str:
    return re.sub(r"[-_ ]", "", corpus.casefold())


EVERYTHING = Selection()
"""Leaves nothing out."""


def is_control(columns: Mapping[str, Sequence[Any]], place: int) -> bool:
    """Return whether an utterance is of a control speaker, by its columns or by the names of TORGO and UA-Speech."""
    if _kinds(columns, place) & _CONTROL:
        return True
    corpus, speaker = str(columns["corpus"][place]), original_name(str(columns["speaker"][place]))
    return any(named.match(corpus) and control.match(speaker) for named, control in _CONTROL_SPEAKER)


def is_l2(columns: Mapping[str, Sequence[Any]], place: int) -> bool:
    """Return whether an utterance is of a second-language speaker."""
    return bool(_kinds(columns, place) & _L2)


def is_dysarthric(columns: Mapping[str, Sequence[Any]], place: int) -> bool:
    """Return whether an utterance is of a dysarthric speaker; a control by name is none, whatever its group says."""
    return bool(_kinds(columns, place) & _DYSARTHRIC) and not is_control(columns, place)


def original_name(speaker: str) -> str:
    """Return the name that the corpus itself gives a speaker: F02 for UA-F02."""
    return _PREFIX.sub("", speaker, count=1) if _PREFIX.match(speaker) else speaker


def _kinds(columns: Mapping[str, Sequence[Any]], place: int) -> set[str]:
    return {str(columns[name][place]).casefold() for name in KIND_COLUMNS if name in columns}
