"""UA-Speech: single words of dysarthric speakers and controls, each recorded by up to seven microphones at once.

Layouts: `audio/<SPK>` with `audio/control/<CSPK>` (old), `audio/{original,noisereduce,normalized}/<SPK>` (new). The words
come from `mlf/` or `doc/speaker_wordlist` (see `uaspeech_words`). Corpus: Kim et al. 2008, Interspeech.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.corpora import importing, splits
from trainables.corpora.recordings import Found, Recording, Rejected
from trainables.corpora.uaspeech_words import SPEAKER, Utterance, WordList, parse, read
from trainables.errors import DataError

NAME = "uaspeech"
DEFAULT_SPLIT = "blocks"
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "audio": ("original", "noisereduce", "normalized"),
    "mic": ("M5", "M2", "M3", "M4", "M6", "M7", "M8", "all", "mean"),
}
#: Intelligibility to untrained listeners: class and percent. As in the literature and the release's sheet `Speaker`; for
#: M01 some papers have 17. M06 is not in the common release.
INTELLIGIBILITY = {
    "M04": ("very low", "2"), "F03": ("very low", "6"), "M12": ("very low", "7.4"), "M01": ("very low", "15"),
    "M07": ("low", "28"), "F02": ("low", "29"), "M06": ("low", "39"), "M16": ("low", "43"),
    "M05": ("mid", "58"), "F04": ("mid", "62"), "M11": ("mid", "62"),
    "M09": ("high", "86"), "M14": ("high", "90.4"), "M08": ("high", "93"), "M10": ("high", "93"), "F05": ("high", "95"),
}  # fmt: skip
#: Recordings without samples in the original release (Kaldi recipe of Xiong et al.).
KNOWN_EMPTY = frozenset(
    "F03_B3_C13_M2 F03_B3_C3_M5 F03_B3_CW100_M8 F04_B1_UW8_M8 F04_B1_UW94_M3 F04_B1_UW94_M5 F04_B1_UW95_M6 "
    "F04_B1_UW96_M4 F04_B1_UW96_M5 F04_B1_UW99_M3 F04_B1_UW9_M5 F04_B2_C10_M4 F04_B2_C12_M6 F04_B2_C12_M7 "
    "F04_B2_C13_M5".split()
)
#: No decoder reads it in the version `noisereduce`.
KNOWN_UNREADABLE = "M16_B3_UW100_M8"
_BLOCK_SIZE = 255
_NOTES_SHOWN = 5


@dataclass(frozen=True)
class _Request:
    """What is asked of a copy of the corpus: version of the audio and microphone; its words and splits."""

    audio: str
    mic: str
    words: WordList
    split_of: Mapping[Utterance, str]


@dataclass(frozen=True)
class _Speaker:
    """The sound files of a speaker.

    Attributes:
        utterances: utterance -> microphone -> file; none for an utterance that only the label file knows.
        unnamed: files whose names do not say which utterance of this speaker they hold.
    """

    name: str
    folder: Path
    utterances: Mapping[Utterance, Mapping[str, Path]]
    unnamed: tuple[Path, ...]


def find(root: Path, options: Mapping[str, str]) -> Found:
    """Find the recordings of a copy of UA-Speech.

    Args:
        root: the folder that holds audio/.
        options: `audio`: version of the recordings; `mic`: one microphone (where it is missing, the first there is), `all`
            (one utterance each) or `mean` (of all channels).

    Raises:
        DataError: an unknown option, no such corpus at `root`, no permission, or no words for its recordings.
    """
    asked = importing.settings(NAME, options, OPTIONS)
    root = importing.expanded(root).absolute()
    speakers = _speaker_folders(root, asked["audio"])
    words = read(root)
    on_disk = {name: _on_disk(name, folder, words) for name, folder in speakers.items()}
    utterances = [utterance for speaker in on_disk.values() for utterance in speaker.utterances]
    request = _Request(**asked, words=words, split_of=_splits(utterances, words))
    parts = [_of_speaker(speaker, request) for speaker in on_disk.values()]
    notes = [*words.notes, *_known_defects(parts, request), *_gaps(parts)]
    if absent := sorted(set(words.listed) - set(speakers)):
        notes.append(f"speakers with a label file but without a folder of audio: {', '.join(absent)}")
    if unrated := sorted(name for name in speakers if not _is_control(name) and name not in INTELLIGIBILITY):
        notes.append(f"no intelligibility is known for {', '.join(unrated)}; their severity stays empty")
    return importing.joined(parts, notes)


def _speaker_folders(root: Path, audio: str) -> dict[str, Path]:
    """Return speaker -> folder, sorted, in the old or the new layout."""
    versions = importing.folders(root / "audio") if importing.is_folder(root / "audio") else {}
    # Some copies spell the versions noisereduced and normalised.
    of_version = [path for name, path in versions.items() if name.lower().startswith(audio[:7])]
    old_layout = {name for name in versions if SPEAKER.fullmatch(name)} | {"control"} & set(versions)
    if not of_version and (audio != OPTIONS["audio"][0] or not old_layout):
        raise DataError(_no_audio(root, audio, list(versions), old_layout=bool(old_layout)))
    base = of_version[0] if of_version else root / "audio"
    here = importing.folders(base)
    controls = importing.folders(here["control"]) if "control" in here else {}
    speakers = {name: path for name, path in {**controls, **here}.items() if SPEAKER.fullmatch(name)}
    if not speakers:
        raise DataError(
            f"{NAME}: expected folders of speakers such as F02, M16 or CM05 in {base}; {importing.found_instead(base)}. "
            "Unpack the archives of the release there"
        )
    return dict(sorted(speakers.items()))


def _no_audio(root: Path, audio: str, versions: Sequence[str], *, old_layout: bool) -> str:
    if old_layout:
        return (
            f"{NAME}: option audio = {audio!r}, but {root / 'audio'} has the old layout, audio/<SPEAKER>/, with one version "
            "of the recordings: leave the option out"
        )
    there = [name for name in OPTIONS["audio"] if any(version.lower().startswith(name[:7]) for version in versions)]
    do = f"give the option audio = {' or '.join(there)}" if there else "give the folder that holds audio/"
    what = importing.found_instead(root / "audio" if versions else root)
    return (
        f"{NAME}: expected audio/{audio}/<SPEAKER>/ (new layout), or audio/<SPEAKER>/ and audio/control/<SPEAKER>/ (old "
        f"layout), in {root}; {what}; {do}"
    )


def _on_disk(speaker: str, folder: Path, words: WordList) -> _Speaker:
    found: dict[Utterance, dict[str, Path]] = {utterance: {} for utterance in words.listed.get(speaker, ())}
    unnamed = []
    for stem, path in importing.files(folder, ".wav").items():
        name = parse(stem)
        if name is None or name[0].speaker != speaker:
            unnamed.append(path)
        else:
            found.setdefault(name[0], {})[name[1]] = path
    return _Speaker(speaker, folder, dict(sorted(found.items())), tuple(unnamed))


def _splits(utterances: Sequence[Utterance], words: WordList) -> dict[Utterance, str]:
    """Split by block; equal words share their split within train and validation, at all microphones and speakers."""
    columns = {
        "utt_id": [utterance.name for utterance in utterances],
        "corpus": [NAME for _ in utterances],
        "block": [utterance.block for utterance in utterances],
        "prompt_id": [utterance.prompt_id for utterance in utterances],
        "transcript": [words.by_prompt.get(utterance.prompt_id, "") for utterance in utterances],
    }
    return dict(zip(utterances, splits.by_block(columns)))


def _of_speaker(speaker: _Speaker, request: _Request) -> Found:
    name, folder = f"UA-{speaker.name}", speaker.folder
    parts = [_of_utterance(utterance, paths, folder, request) for utterance, paths in speaker.utterances.items()]
    others = Counter(
        recording.more["mic"] for part in parts for recording in part.recordings if recording.more["mic"] != request.mic
    )
    notes = []
    if others and request.mic not in ("all", "mean"):
        instead = ", ".join(f"{mic} ({count})" for mic, count in sorted(others.items()))
        notes.append(f"{name}: {sum(others.values())} utterances have no {request.mic}; taken instead: {instead}")
    short = [note for part in parts for note in part.notes]
    if len(short) > _NOTES_SHOWN:
        notes.append(f"{name}: the mean of {len(short) - _NOTES_SHOWN} more utterances lacks channels")
    expected = f"expected {speaker.name}_<B1|B2|B3>_<code>_<M2 to M8>.wav"
    unnamed = (
        Rejected(f"{name}/{path.stem}", "unknown_name", f"{path}: {expected}", name, _group(speaker.name))
        for path in speaker.unnamed
    )
    parts = [Found((), tuple(unnamed)), *(replace(part, notes=()) for part in parts)]
    return importing.joined(parts, [*short[:_NOTES_SHOWN], *notes])


def _of_utterance(utterance: Utterance, paths: Mapping[str, Path], folder: Path, request: _Request) -> Found:
    """Return one utterance as one recording, or one per microphone, or why it cannot be used."""
    if not paths:
        detail = f"{folder} has no {utterance.name}_M*.wav, which {utterance.speaker}_word.mlf lists"
        return Found((), (_rejected(utterance, "", "missing_file", detail, request),))
    if request.mic == "mean":
        return _mean(utterance, paths, request)
    chosen = paths if request.mic == "all" else [request.mic if request.mic in paths else min(paths)]
    recordings, rejects = [], []
    if request.mic == "all":
        listed = request.words.listed.get(utterance.speaker, {}).get(utterance, frozenset())
        for mic in sorted(listed - set(paths)):
            detail = f"{folder} has no {utterance.name}_{mic}.wav, which {utterance.speaker}_word.mlf lists"
            rejects.append(_rejected(utterance, mic, "missing_file", detail, request))
    for mic in sorted(chosen):
        word = request.words.word(utterance, mic)
        reason, detail = importing.problem(paths[mic]) or ("", "")
        if not word and not reason:
            reason, detail = "no_transcript", f"{paths[mic]}: no word list knows {utterance.prompt_id}"
        if reason:
            rejects.append(_rejected(utterance, mic, reason, detail, request))
        else:
            recordings.append(_recording(utterance, mic, (paths[mic],), word, request))
    return Found(tuple(recordings), tuple(rejects))


def _mean(utterance: Utterance, paths: Mapping[str, Path], request: _Request) -> Found:
    """Return one recording of all channels that are not empty; those left out are said in a note."""
    problems = {mic: found for mic, path in paths.items() if (found := importing.problem(path)) is not None}
    usable = {mic: path for mic, path in sorted(paths.items()) if mic not in problems}
    notes = tuple(f"UA-{utterance.name}: the mean is without {mic}: {found[1]}" for mic, found in problems.items())
    word = next((word for mic in sorted(paths) if (word := request.words.word(utterance, mic))), "")
    if not usable:
        reason, detail = next(iter(problems.values()))
        return Found((), (_rejected(utterance, "", reason, detail, request),))
    if not word:
        detail = f"{next(iter(usable.values()))}: no word list knows {utterance.prompt_id}"
        return Found((), (_rejected(utterance, "", "no_transcript", detail, request),), notes)
    return Found((_recording(utterance, "mean", tuple(usable.values()), word, request),), (), notes)


def _recording(utterance: Utterance, mic: str, paths: Sequence[Path], word: str, request: _Request) -> Recording:
    severity, intelligibility = INTELLIGIBILITY.get(utterance.speaker, ("", ""))
    group = _group(utterance.speaker)
    return Recording(
        utt_id=_utt_id(utterance, "" if mic == "mean" else mic),
        audio=tuple(str(path) for path in paths),
        transcript=word,
        speaker=f"UA-{utterance.speaker}",
        corpus=NAME,
        group=group,
        split=request.split_of[utterance],
        more={
            "speaker_type": group,
            "severity": severity,
            "intelligibility": intelligibility,
            "gender": utterance.speaker.removeprefix("C")[0],
            "prompt_id": utterance.prompt_id,
            "word_class": utterance.word_class,
            "block": utterance.block,
            "mic": mic,
            "audio_version": request.audio,
        },
    )


def _rejected(utterance: Utterance, mic: str, reason: str, detail: str, request: _Request) -> Rejected:
    speaker, split = utterance.speaker, request.split_of[utterance]
    return Rejected(_utt_id(utterance, mic), reason, detail, f"UA-{speaker}", _group(speaker), split)


def _utt_id(utterance: Utterance, mic: str) -> str:
    return f"UA-{utterance.name}_{mic}" if mic else f"UA-{utterance.name}"


def _is_control(speaker: str) -> bool:
    return speaker.startswith("C")


def _group(speaker: str) -> str:
    return "control" if _is_control(speaker) else "dysarthric"


def _known_defects(parts: Sequence[Found], request: _Request) -> list[str]:
    """Tell defects of the release from those of this copy."""
    empty = {reject.utt_id.removeprefix("UA-") for part in parts for reject in part.rejects if reject.reason == "empty"}
    notes = []
    if known := sorted(empty & KNOWN_EMPTY):
        notes.append(f"empty in the release too: {', '.join(known)}")
    if others := sorted(empty - KNOWN_EMPTY):
        shown = ", ".join(others[:10]) + (f" and {len(others) - 10} more" if len(others) > 10 else "")
        notes.append(f"empty here but not in the release, copy them again: {shown}")
    files = {Path(path).stem for part in parts for recording in part.recordings for path in recording.audio}
    if request.audio == "noisereduce" and KNOWN_UNREADABLE in files:
        notes.append(
            f"{KNOWN_UNREADABLE} cannot be read in the release's noisereduce; preparation leaves it out if so here"
        )
    return notes


def _gaps(parts: Sequence[Found]) -> list[str]:
    """Say which blocks are not whole; each has 255 utterances in the release."""
    seen: dict[tuple[str, str], set[str]] = {}
    for part in parts:
        for recording in part.recordings:
            words = seen.setdefault((recording.speaker, recording.more["block"]), set())
            words.add(recording.more["prompt_id"])
    speakers = sorted({speaker for speaker, _ in seen})
    counts = {(s, block): len(seen.get((s, block), ())) for s in speakers for block in ("B1", "B2", "B3")}
    short = [f"{s} {block}: {count}" for (s, block), count in counts.items() if count < _BLOCK_SIZE]
    return [f"usable utterances in blocks that are not whole ({_BLOCK_SIZE} each): {'; '.join(short)}"] if short else []
