"""L2-ARCTIC v5.0: 24 second-language speakers of English who read the same 1,132 sentences.

Source: https://psi.engr.tamu.edu/l2-arctic-corpus, by form; licence CC BY-NC 4.0; 27.1 hours, 26,867 utterances, 44.1 kHz
(preparation resamples). Read as it comes: the archive of per-speaker archives, a folder of those archives, or folders
`<SPEAKER>/{wav,transcript}/arctic_[ab]####.{wav,txt}`; archives are not unpacked.

Default split: by text (`prompts`). A split by utterance would let every sentence of test be heard in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from trainables.corpora import importing, references, splits
from trainables.corpora.audio import UnusableAudio
from trainables.corpora.recordings import Found, Recording, Rejected
from trainables.errors import DataError

NAME = "l2arctic"
OPTIONS: Mapping[str, tuple[str, ...]] = {"suitcase": ("leave", "take")}
DEFAULT_SPLIT = "prompts"
_SUITCASE = "suitcase_corpus"
_EXPECTED = (
    "expected the archive l2arctic_release_v5.0.zip, or a folder with it, with archives <SPEAKER>.zip or with folders "
    "<SPEAKER>/wav and <SPEAKER>/transcript"
)
_SUFFIXES = {"wav": ".wav", "transcript": ".txt"}
_SHOWN = 5
# Speaker -> first language and gender, from the table of the corpus documentation: two of each gender per language.
_SPEAKERS = {
    "ABA": ("Arabic", "M"), "SKA": ("Arabic", "F"), "YBAA": ("Arabic", "M"), "ZHAA": ("Arabic", "F"),
    "BWC": ("Mandarin", "M"), "LXC": ("Mandarin", "F"), "NCC": ("Mandarin", "F"), "TXHC": ("Mandarin", "M"),
    "ASI": ("Hindi", "M"), "RRBI": ("Hindi", "M"), "SVBI": ("Hindi", "F"), "TNI": ("Hindi", "F"),
    "HJK": ("Korean", "F"), "HKK": ("Korean", "M"), "YDCK": ("Korean", "F"), "YKWK": ("Korean", "M"),
    "EBVS": ("Spanish", "M"), "ERMS": ("Spanish", "M"), "MBMPS": ("Spanish", "F"), "NJS": ("Spanish", "F"),
    "HQTV": ("Vietnamese", "M"), "PNV": ("Vietnamese", "F"), "THV": ("Vietnamese", "F"), "TLV": ("Vietnamese", "M"),
}  # fmt: skip


@dataclass
class _Files:
    """Sound files and transcripts of a speaker (or of the suitcase corpus), by stem: reference and bytes."""

    wav: dict[str, tuple[str, int]] = field(default_factory=dict)
    transcript: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(self, kind: str, name: str, reference: str, num_bytes: int) -> None:
        stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()
        if not name.startswith(".") and suffix == _SUFFIXES.get(kind):
            getattr(self, kind)[stem] = (reference, num_bytes)


def find(root: Path, options: Mapping[str, str]) -> Found:
    """Find the recordings of L2-ARCTIC.

    Args:
        root: the archive, or a folder that holds it, the archives of speakers, or their folders.
        options: suitcase = leave | take: the retold picture stories, spontaneous and about a minute each.

    Raises:
        DataError: a wrong root or option, a damaged archive, a folder without permission, or speakers whose folder is not
            what their archive holds.
    """
    asked = importing.settings(NAME, options, OPTIONS)
    root = importing.expanded(root).absolute()
    files = _files(root)
    suitcase = files.pop(_SUITCASE, _Files())
    speakers = {name: files[name] for name in sorted(files) if files[name].wav or files[name].transcript}
    if not speakers:
        raise DataError(f"{root} is not L2-ARCTIC: {_EXPECTED}; {_found_instead(root)}")
    outcomes = [outcome for speaker, of_speaker in speakers.items() for outcome in _read(of_speaker, speaker)]
    notes = [*_notes(speakers)]
    if asked["suitcase"] == "take":
        outcomes += _read(suitcase, None)
        notes += [] if suitcase.wav else [f"suitcase = take: no {_SUITCASE} was found"]
    elif suitcase.wav:
        notes.append(f"{len(suitcase.wav)} recordings of {_SUITCASE} left out; --option suitcase=take takes them")
    return _with_splits(outcomes, notes)


def _read(files: _Files, speaker: str | None) -> Iterator[Recording | Rejected]:
    """Match sound files and transcripts by name, and only then take either.

    Args:
        files: those of one speaker, or of the suitcase corpus.
        speaker: who reads; None: the suitcase corpus, whose files are named by who tells the story.
    """
    for stem in sorted(files.wav.keys() | files.transcript.keys()):
        who = speaker or stem.split("_")[0].upper()
        utt_id = f"L2-{who}_{stem if speaker else 'suitcase'}"
        outcome = _transcript(stem, files)
        if isinstance(outcome, UnusableAudio):
            yield Rejected(utt_id, outcome.reason, outcome.detail, f"L2-{who}", "l2")
            continue
        l1, gender = _SPEAKERS.get(who, ("", ""))
        more = {"speaker_type": "l2", "l1": l1, "gender": gender, "prompt_id": stem if speaker else ""}
        more["style"] = "read" if speaker else "spontaneous"
        yield Recording(utt_id, (files.wav[stem][0],), outcome, f"L2-{who}", NAME, "l2", "train", more)


def _transcript(stem: str, files: _Files) -> str | UnusableAudio:
    """Return the transcript of a sound file that can be used, or what is wrong with the pair."""
    if stem not in files.wav:
        return UnusableAudio("no_audio", f"{files.transcript[stem][0]}: there is no {stem}.wav")
    reference, num_bytes = files.wav[stem]
    if stem not in files.transcript:
        return UnusableAudio("no_transcript", f"{reference}: there is no {stem}.txt")
    if num_bytes == 0:
        return UnusableAudio("empty", f"{reference} has no bytes")
    text_reference = files.transcript[stem][0]
    try:
        text = " ".join(references.read(text_reference).decode("utf-8-sig").split())
    except (UnusableAudio, UnicodeDecodeError) as error:
        return UnusableAudio("unreadable_transcript", f"{text_reference}: {error}")
    return text or UnusableAudio("empty_transcript", f"{text_reference} has no words")


def _with_splits(outcomes: Sequence[Recording | Rejected], notes: Sequence[str]) -> Found:
    recordings = [one for one in outcomes if isinstance(one, Recording)]
    columns = {
        "utt_id": [one.utt_id for one in recordings],
        "speaker": [one.speaker for one in recordings],
        "corpus": [one.corpus for one in recordings],
        "transcript": [one.transcript for one in recordings],
        "prompt_id": [one.more["prompt_id"] for one in recordings],
    }
    split_N = splits.assign(DEFAULT_SPLIT, columns)
    of_prompt = dict(zip(columns["prompt_id"], split_N))
    return Found(
        tuple(replace(one, split=split) for one, split in zip(recordings, split_N)),
        tuple(replace(one, split=of_prompt.get(_stem(one), "train")) for one in outcomes if isinstance(one, Rejected)),
        tuple(notes),
    )


def _stem(reject: Rejected) -> str:
    return reject.utt_id.partition("_")[2]


def _notes(speakers: Mapping[str, _Files]) -> Iterator[str]:
    if missing := [name for name in _SPEAKERS if name not in speakers]:
        yield f"speakers that are not there: {', '.join(missing)} ({len(_SPEAKERS) - len(missing)} of {len(_SPEAKERS)})"
    if unknown := [name for name in speakers if name not in _SPEAKERS]:
        yield f"speakers that v5.0 does not have, first language and gender unknown: {', '.join(unknown)}"
    sentences = set().union(*(files.wav for files in speakers.values()))
    for name, files in speakers.items():
        if lacking := sorted(sentences - files.wav.keys()):
            yield f"{name} lacks {len(lacking)} of {len(sentences)} sentences: {_few(lacking)}"


def _files(root: Path, *, look_into_only_folder: bool = True) -> dict[str, _Files]:
    """List sound files and transcripts by speaker, wherever they lie."""
    if importing.is_file(root) and root.suffix.lower() == ".zip":
        return _from_archive(str(root), "")
    found: dict[str, _Files] = {}
    if not importing.is_folder(root):
        return found
    for name, folder in importing.folders(root).items():
        for place in (folder, folder / name):  # unpacked into a folder of its own name
            if importing.is_folder(place / "wav") or importing.is_folder(place / "transcript"):
                found[_speaker(name)] = _from_folder(place)
                break
    faults = []
    for archive in importing.files(root, ".zip").values():
        for name, files in _from_archive(str(archive), archive.stem).items():
            if name in found and (differs := _differs(found[name], files)):
                faults.append(f"beside {archive} the folder {name} {differs}")
            found.setdefault(name, files)
    if faults:
        raise DataError(
            f"{root} is unpacked in part or changed: {'; '.join(faults)}. Unpack these again; or remove the folders, because "
            "archives are read as they are; or, where a folder is as you want it, move its archive elsewhere"
        )
    nested = list(importing.folders(root).values())
    if found or len(nested) != 1 or not look_into_only_folder:
        return found
    return _files(nested[0], look_into_only_folder=False)


def _from_folder(folder: Path) -> _Files:
    files = _Files()
    for kind in ("wav", "transcript"):
        if importing.is_folder(folder / kind):
            suffix = _SUFFIXES[kind]
            for stem, path in importing.files(folder / kind, suffix).items():
                if importing.is_file(path):
                    files.add(kind, stem + suffix, str(path), path.stat().st_size)
    return files


def _from_archive(archive: str, owner: str) -> dict[str, _Files]:
    """List an archive of speakers, of one speaker (`owner`), or of archives of speakers."""
    try:
        members = references.members(archive)
    except UnusableAudio as error:
        raise DataError(
            f"{error.detail}; check its permissions, or download or copy the archive again, or move it elsewhere if all of "
            "it is unpacked"
        ) from error
    found: dict[str, _Files] = {}
    for name, member in members.items():
        path = PurePosixPath(name)
        if "__MACOSX" in path.parts or path.name.startswith("."):
            continue
        reference = references.join(archive, name)
        if path.suffix.lower() == ".zip":
            found |= _from_archive(reference, path.stem)
        elif len(path.parts) >= 2 and path.parts[-2] in ("wav", "transcript"):
            speaker = _speaker(path.parts[-3] if len(path.parts) >= 3 else owner)
            found.setdefault(speaker, _Files()).add(path.parts[-2], path.name, reference, member.file_size)
    return found


def _speaker(name: str) -> str:
    return _SUITCASE if name.casefold().startswith("suitcase") else name.upper()


def _differs(unpacked: _Files, packed: _Files) -> str:
    """Say what a folder lacks of its archive, or has in another size: unpacking that is cut short leaves both."""
    parts = []
    for what, here, there in (
        ("recordings", unpacked.wav, packed.wav), ("transcripts", unpacked.transcript, packed.transcript),
    ):  # fmt: skip
        if lacking := sorted(there.keys() - here.keys()):
            parts.append(f"lacks {len(lacking)} {what} ({_few(lacking)})")
        if other := sorted(stem for stem in there.keys() & here.keys() if there[stem][1] != here[stem][1]):
            parts.append(f"has {len(other)} {what} of another size ({_few(other)})")
    return " and ".join(parts)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def _found_instead(root: Path) -> str:
    return f"{root} holds no such files" if importing.is_file(root) else importing.found_instead(root)
