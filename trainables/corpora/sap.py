"""Speech Accessibility Project: read and spontaneous speech of people with five etiologies, transcribed with mark-up.

Source: https://speechaccessibilityproject.beckman.illinois.edu, by data use agreement, no redistribution. Layout:
`<TRAIN|DEV|TEST>/<contributor>/<contributor>.json` with the sound files beside it; the split is that of the folders.

The transcript is the one without disfluencies; the one with them is the column `transcript_with_disfluencies`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.corpora import importing
from trainables.corpora.recordings import Found, Recording, Rejected, readable
from trainables.errors import DataError
from trainables.vocabulary import normalise

NAME = "sap"
OPTIONS: Mapping[str, tuple[str, ...]] = {}
_VALIDATION = ("dev", "validation", "valid", "val")
_SPLIT_FOLDERS = {"train": "train", "test": "test", **dict.fromkeys(_VALIDATION, "validation")}
_EXPECTED = (
    "expected folders TRAIN, DEV or TEST with a folder per contributor that holds <contributor>.json and its wav files"
)
_SHOWN = 5
_PROMPT = re.compile(r"\[[^\]]*\]|^[^\[]*\]")
_BRACES = re.compile(r"\{([^}]*)\}")
_PARENTHESES = re.compile(r"\(([^)]*)\)")
_TAGGED = re.compile(r"\s*[A-Za-z]+\s*:(.*)", re.DOTALL)


class Untranscribed(ValueError):
    """A transcript that does not say all that is heard; `reason` is the word for the rejects table."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Unlisted(ValueError):
    """A contributor whose recordings cannot be used, because nothing says what is heard in them."""


@dataclass(frozen=True)
class _Contributor:
    """A folder of the corpus: who, in which split, with which sound files."""

    name: str
    folder: Path
    split: str
    wavs: Mapping[str, Path]

    def reject(self, name: str, reason: str, detail: str) -> Rejected:
        return Rejected(_utt_id(self, name), reason, detail, f"SAP-{self.name}", "dysarthric", self.split)


def find(root: Path, options: Mapping[str, str]) -> Found:
    """Find the recordings of the Speech Accessibility Project.

    Args:
        root: the folder that holds TRAIN, DEV and TEST (any case; one is enough).
        options: none.

    Raises:
        DataError: a wrong root or option, or no permission to read a folder or the list of a contributor.
    """
    importing.settings(NAME, options, OPTIONS)
    root = importing.expanded(root).absolute()
    contributors = list(_contributors(root))
    if not contributors:
        raise DataError(f"{root} is not the Speech Accessibility Project: {_EXPECTED}; {importing.found_instead(root)}")
    outcomes: dict[str, Recording | Rejected] = {}
    repeated: list[Rejected] = []
    for contributor in contributors:
        for outcome in _read(contributor):
            if outcome.utt_id in outcomes:
                detail = f"{contributor.folder}: listed or stored before under the same name"
                repeated.append(Rejected(outcome.utt_id, "duplicate", detail, *_who(outcome)))
            else:
                outcomes[outcome.utt_id] = outcome
    return Found(
        tuple(one for one in outcomes.values() if isinstance(one, Recording)),
        (*(one for one in outcomes.values() if isinstance(one, Rejected)), *repeated),
        tuple(_notes(contributors)),
    )


def transcripts(raw: str) -> tuple[str, str]:
    """Turn a transcript with mark-up into what was said, without and with disfluencies.

    `#` lines are markers; `[...]` is the prompt, not speech; `(...)` is a disfluency, `(x:word)` a word of another kind;
    `{x:word}` is a word with a remark; `~` and `*` mark single letters and broken-off words.

    Raises:
        Untranscribed: `#ts` (only stretches of the recording are transcribed), or parts that nobody understood: `{w:2}`,
            `{u:guess}`, `{}`.
    """
    lines = raw.replace("\r", "\n").split("\n")
    markers = {line.strip() for line in lines if line.lstrip().startswith("#")}
    if any(marker.startswith("#ts") for marker in markers):
        raise Untranscribed("time_stamps", "#ts: only stretches of the recording are transcribed")
    text = _PROMPT.sub(" ", " ".join(line for line in lines if line.strip() not in markers))
    text = re.sub(r"[~*]", " ", _BRACES.sub(_understood, text))
    without = _PARENTHESES.sub(lambda match: _word(match[1]) if _TAGGED.fullmatch(match[1]) else " ", text)
    with_them = _PARENTHESES.sub(lambda match: _word(match[1]), text)
    return " ".join(without.split()), " ".join(with_them.split())


def _understood(match: re.Match[str]) -> str:
    content = match[1].strip()
    if not content or content.partition(":")[0].strip() in ("w", "u"):
        raise Untranscribed("unintelligible", f"{match[0]!r}: not all of it was understood")
    return _word(content)


def _word(content: str) -> str:
    tagged = _TAGGED.fullmatch(content)
    return f" {tagged[1] if tagged else content} "


def _contributors(root: Path) -> Iterator[_Contributor]:
    if not importing.is_folder(root):
        return
    for name, folder in importing.folders(root).items():
        split = _SPLIT_FOLDERS.get(name.casefold())
        for contributor, inside in importing.folders(folder).items() if split else ():
            wavs = {path.name: path for path in importing.files(inside, ".wav").values()}
            if wavs or importing.files(inside, ".json"):
                yield _Contributor(contributor, inside, str(split), wavs)


def _read(contributor: _Contributor) -> Iterator[Recording | Rejected]:
    try:
        described = _description(contributor)
    except _Unlisted as error:
        for name in contributor.wavs or [contributor.name]:
            yield contributor.reject(name, "unreadable_json", str(error))
        return
    listed = set()
    for number, item in enumerate(described["Files"]):
        name = _file_name(item)
        if not name:
            detail = f"{contributor.folder.name}.json, entry {number + 1} of Files has no Filename"
            yield contributor.reject(f"entry{number + 1}", "unreadable_json", detail)
            continue
        listed.add(name)
        yield _utterance(contributor, name, item, described)
    for name in sorted(contributor.wavs.keys() - listed):
        yield contributor.reject(name, "no_transcript", f"{contributor.wavs[name]} is not in the contributor's json")


def _description(contributor: _Contributor) -> dict[str, Any]:
    found = importing.files(contributor.folder, ".json")
    path = found.get(contributor.name) or next(iter(found.values()), None)
    if path is None:
        raise _Unlisted(f"{contributor.folder} has no {contributor.name}.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except PermissionError as error:
        # It names all recordings of a person; who may not read it has a setting to mend, not a corpus with a defect.
        raise DataError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    except (OSError, ValueError) as error:
        raise _Unlisted(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("Files"), list):
        raise _Unlisted(f"{path}: an object with a list Files is needed")
    return content


def _file_name(item: object) -> str:
    """Return the name of a listed file, without folders; "" when the entry has none."""
    name = item.get("Filename") if isinstance(item, dict) else None
    return re.split(r"[/\\]", name.strip())[-1] if isinstance(name, str) else ""


def _utterance(
    contributor: _Contributor, name: str, item: Mapping[str, Any], described: Mapping[str, Any]
) -> Recording | Rejected:
    path = contributor.wavs.get(name)
    if path is None:
        return contributor.reject(name, "missing_file", f"{contributor.folder / name} is in the json and not on disk")
    if problem := importing.problem(path):
        return contributor.reject(name, *problem)
    prompt = item.get("Prompt") if isinstance(item.get("Prompt"), dict) else {}
    raw = prompt.get("Transcript") if prompt else None
    if not isinstance(raw, str):
        return contributor.reject(name, "no_transcript", f"{path}: its entry has no Prompt.Transcript")
    if readable(raw) != raw:
        return contributor.reject(name, "unreadable_transcript", f"{path}: {raw!r} holds half of a character")
    try:
        transcript, with_disfluencies = transcripts(raw)
    except Untranscribed as error:
        return contributor.reject(name, error.reason, f"{path}: {error}")
    if not normalise(transcript):
        return contributor.reject(name, "empty_transcript", f"{path}: {raw!r} has no words besides disfluencies")
    more = {
        "speaker_type": "dysarthric",
        "etiology": str(described.get("Etiology") or "").strip(),
        "prompt_id": hashlib.sha256(normalise(transcript).encode()).hexdigest()[:16],
        "prompt_category": str((prompt or {}).get("Category Description") or "").strip(),
        "transcript_with_disfluencies": with_disfluencies,
    }
    audio, speaker = (str(path),), f"SAP-{contributor.name}"
    return Recording(
        _utt_id(contributor, name), audio, transcript, speaker, NAME, "dysarthric", contributor.split, more
    )


def _utt_id(contributor: _Contributor, name: str) -> str:
    stem = name.removesuffix(".wav").removesuffix(".WAV")
    return f"SAP-{stem}" if stem.startswith(contributor.name) else f"SAP-{contributor.name}_{stem}"


def _who(outcome: Recording | Rejected) -> tuple[str, str, str]:
    return outcome.speaker, outcome.group, outcome.split


def _notes(contributors: list[_Contributor]) -> Iterator[str]:
    of_contributor: dict[str, set[str]] = {}
    for contributor in contributors:
        of_contributor.setdefault(contributor.name, set()).add(contributor.split)
    if several := sorted(name for name, splits in of_contributor.items() if len(splits) > 1):
        shown = ", ".join(several[:_SHOWN]) + (" ..." if len(several) > _SHOWN else "")
        yield f"contributors that are in more than one split: {len(several)} ({shown})"
    if missing := sorted({"train", "validation", "test"} - {contributor.split for contributor in contributors}):
        yield f"no folder for: {', '.join(missing)}"
