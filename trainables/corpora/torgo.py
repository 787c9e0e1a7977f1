"""TORGO: words and sentences of dysarthric speakers and controls, at a head-worn and at an array microphone.

Layouts: `<F|FC|M|MC>/<SPK>/Session<N>/` or `<SPK>/Session<N>/`, each with `prompts/####.txt`, `wav_headMic/####.wav` and
`wav_arrayMic/####.wav`. Corpus: Rudzicz et al. 2012, https://doi.org/10.1007/s10579-011-9145-0
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.corpora import importing, splits
from trainables.corpora.recordings import Found, Recording, Rejected
from trainables.corpora.torgo_prompts import decoded, spoken
from trainables.errors import DataError
from trainables.vocabulary import normalise

NAME = "torgo"
DEFAULT_SPLIT = "prompts"
OPTIONS: Mapping[str, tuple[str, ...]] = {"mic": ("head", "array", "all")}
#: Severity as in the literature, and the mean of the Frenchay assessment (8: no abnormality, 0: no function).
SEVERITY = {
    "F01": ("severe", "2.33"), "M01": ("severe", "2.33"), "M02": ("severe", "2.33"), "M04": ("severe", "1.67"),
    "M05": ("moderate-severe", "5.33"), "F03": ("moderate", "8"), "F04": ("mild", "8"), "M03": ("mild", "8"),
}  # fmt: skip
SPEAKERS = (*sorted(SEVERITY), "FC01", "FC02", "FC03", "MC01", "MC02", "MC03", "MC04")
_SPEAKER, _SESSION = re.compile(r"[FM]C?\d\d"), re.compile(r"Session\d+(_\d+)?", re.IGNORECASE)
_MIC_FOLDERS = {"head": "wav_headmic", "array": "wav_arraymic"}
_KNOWN = {
    ("F03", "Session2"): "prompts are known to be missing or not to match what is said; listen before relying on them"
}


@dataclass(frozen=True)
class _Clip:
    """One numbered utterance of a session: what was to be said, why it cannot be used, and its sound files.

    Attributes:
        reason: why the prompt is no transcript, "" when it is one.
        detail: the same as a sentence.
        paths: microphone -> file, none when only the prompt is there.
    """

    speaker: str
    session: str
    number: str
    transcript: str
    reason: str
    detail: str
    paths: Mapping[str, Path]

    @property
    def prompt_id(self) -> str:
        """The normalised text: speakers who read the same words share it."""
        return normalise(self.transcript)

    def utt_id(self, mic: str) -> str:
        return f"TORGO-{self.speaker}_{self.session}_{self.number}" + (f"_{mic}" if mic else "")


def find(root: Path, options: Mapping[str, str]) -> Found:
    """Find the recordings of a copy of TORGO.

    Args:
        root: the folder that holds F/, FC/, M/ and MC/, or the folders of the speakers.
        options: `mic`: head or array (where it is missing, the other), or `all` (one utterance each).

    Raises:
        DataError: an unknown option, no such corpus at `root`, no permission, or a speaker who is there twice.
    """
    mic = importing.settings(NAME, options, OPTIONS)["mic"]
    root = importing.expanded(root).absolute()
    speakers = _speaker_folders(root)
    clips: list[_Clip] = []
    notes: list[str] = []
    for speaker, folder in speakers.items():
        for session, place in _sessions(folder).items():
            found = _session(speaker, session, place)
            clips += found
            notes += _session_notes(f"TORGO-{speaker}/{session}", place, found, mic)
            if (speaker, session) in _KNOWN:
                notes.append(f"TORGO-{speaker}/{session}: {_KNOWN[speaker, session]}")
    split_of = _splits([clip for clip in clips if clip.transcript])
    if absent := [name for name in SPEAKERS if name not in speakers]:
        notes.append(f"speakers of the release that are not here: {', '.join(absent)}")
    if unrated := [name for name in speakers if name not in SPEAKERS]:
        notes.append(f"speakers that the release does not have; their severity stays empty: {', '.join(unrated)}")
    return importing.joined([_of_clip(clip, mic, split_of) for clip in clips], notes)


def _speaker_folders(root: Path) -> dict[str, Path]:
    """Return speaker -> folder, sorted, from the nested or the flattened layout."""
    found: dict[str, Path] = {}
    here = importing.folders(root) if importing.is_folder(root) else {}
    below = [path for name, path in here.items() if not _SPEAKER.fullmatch(name)]
    for places in (here, *(importing.folders(path) for path in below)):
        for name, path in places.items():
            if not _SPEAKER.fullmatch(name) or not _sessions(path):
                continue
            if name in found and found[name].resolve() != path.resolve():
                raise DataError(f"{NAME}: speaker {name} is there twice, {found[name]} and {path}; keep one of them")
            found.setdefault(name, path)
    if not found:
        raise DataError(
            f"{NAME}: expected F/F01/Session1/ and so on, or F01/Session1/, below {root}, each with prompts/ and "
            f"wav_headMic/ or wav_arrayMic/; {importing.found_instead(root)}. Give the folder into which the archives of "
            "TORGO were unpacked"
        )
    return dict(sorted(found.items()))


def _sessions(folder: Path) -> dict[str, Path]:
    return {name: path for name, path in importing.folders(folder).items() if _SESSION.fullmatch(name)}


def _session(speaker: str, session: str, folder: Path) -> list[_Clip]:
    """Match prompts and sound files of a session by their names."""
    places = _lower(folder)
    prompts = importing.files(places["prompts"], ".txt") if "prompts" in places else {}
    sounds = {
        mic: importing.files(places[name], ".wav") if name in places else {} for mic, name in _MIC_FOLDERS.items()
    }
    clips = []
    for number in sorted({*prompts, *sounds["head"], *sounds["array"]}):
        paths = {mic: files[number] for mic, files in sounds.items() if number in files}
        transcript, reason, detail = _prompt(prompts.get(number), folder, number)
        clips.append(_Clip(speaker, session, number, transcript, reason, detail, paths))
    return clips


def _lower(folder: Path) -> dict[str, Path]:
    return {name.lower(): path for name, path in importing.folders(folder).items()}


def _prompt(path: Path | None, session: Path, number: str) -> tuple[str, str, str]:
    """Read a prompt as (transcript, reason, detail)."""
    if path is None:
        return "", "no_transcript", f"{session} has no prompts/{number}.txt"
    try:
        text = decoded(path.read_bytes())
    except OSError as error:
        return "", "unreadable_transcript", f"{path}: {error.strerror}"
    if text is None:
        return "", "unreadable_transcript", f"{path} is neither UTF-8 nor Windows-1252 text"
    transcript, reason = spoken(text)
    return transcript, reason, f"{path} says {text.strip()[:80]!r}" if reason else ""


def _of_clip(clip: _Clip, mic: str, split_of: Mapping[str, str]) -> Found:
    """Return an utterance as one recording, or one per microphone, or why it cannot be used."""
    split = split_of.get(clip.prompt_id, "train")

    def rejected(microphone: str, reason: str, detail: str) -> Rejected:
        group, speaker = _group(clip.speaker), f"TORGO-{clip.speaker}"
        return Rejected(clip.utt_id(microphone), reason, detail, speaker, group, split)

    if not clip.paths:
        missing = f"a prompt, but no sound file {clip.number}.wav at either microphone"
        return Found((), (rejected("", clip.reason or "missing_file", clip.detail or f"{clip.utt_id('')}: {missing}"),))
    recordings, rejects = [], []
    for microphone in _chosen(clip, mic):
        path = clip.paths[microphone]
        reason, detail = (clip.reason, clip.detail) if clip.reason else importing.problem(path) or ("", "")
        if reason:
            rejects.append(rejected(microphone, reason, detail))
        else:
            recordings.append(_recording(clip, microphone, path, split))
    return Found(tuple(recordings), tuple(rejects))


def _chosen(clip: _Clip, mic: str) -> list[str]:
    if mic == "all":
        return list(clip.paths)
    return [mic] if mic in clip.paths else list(clip.paths)[:1]


def _recording(clip: _Clip, mic: str, path: Path, split: str) -> Recording:
    severity, frenchay = SEVERITY.get(clip.speaker, ("", ""))
    return Recording(
        utt_id=clip.utt_id(mic),
        audio=(str(path),),
        transcript=clip.transcript,
        speaker=f"TORGO-{clip.speaker}",
        corpus=NAME,
        group=_group(clip.speaker),
        split=split,
        more={
            "speaker_type": _group(clip.speaker),
            "severity": severity,
            "frenchay": frenchay,
            "gender": clip.speaker[0],
            "prompt_id": clip.prompt_id,
            "session": clip.session,
            "mic": mic,
        },
    )


def _splits(clips: Sequence[_Clip]) -> dict[str, str]:
    """Return prompt_id -> split: no text is in two splits, whoever reads it."""
    columns = {
        "utt_id": [clip.utt_id("") for clip in clips],
        "corpus": [NAME for _ in clips],
        "prompt_id": [clip.prompt_id for clip in clips],
        "transcript": [clip.transcript for clip in clips],
    }
    return dict(zip(columns["prompt_id"], splits.by_prompt(columns)))


def _group(speaker: str) -> str:
    return "control" if "C" in speaker else "dysarthric"


def _session_notes(name: str, folder: Path, clips: Sequence[_Clip], mic: str) -> list[str]:
    """Say what a session lacks: a microphone, its prompts, or single recordings of the microphone asked for."""
    notes = []
    if "prompts" not in _lower(folder):
        notes.append(f"{name} has no folder prompts; none of its recordings can be used")
    there = [one for one in _MIC_FOLDERS if any(one in clip.paths for clip in clips)]
    if len(there) == 1:
        notes.append(f"{name} has the {there[0]} microphone only" + (", which is taken" if mic not in there else ""))
    elif not there:
        notes.append(f"{name} has no sound files")
    elif mic != "all" and (others := sum(bool(clip.paths) and mic not in clip.paths for clip in clips)):
        notes.append(f"{name}: {others} utterances are not at the {mic} microphone; the other one is taken")
    return notes
