"""Make the sample corpus that ships with the package: `python tools/make_sample_corpus.py --out DIR`.

Ten words and sentences of them, spoken by ten synthetic speakers in the shape of the motivating experiment:
dysarthric speakers lean to single words, second-language (L2) speakers to sentences, controls have both. It makes
files to exercise every code path with; it is **not** evidence about real dysarthric or accented speech.

The voice is espeak-ng (GPL, a development tool only, `pip install espeakng-loader`; never imported by the package),
called through ctypes. One process speaks everything in a fixed order, because espeak keeps a random state that only
a fresh process resets, and only voices without breath noise are used, because that noise differs in every process.
So the same espeak version gives the same bytes; another may not, and the shipped corpus is therefore committed.

Dimension key: S samples (16-bit integers at `SAMPLE_RATE_HZ`, or floats in -1..1 while they are being shaped).
"""

from __future__ import annotations

import csv
import ctypes
import itertools
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import espeakng_loader  # pyright: ignore[reportMissingImports]  (development only, not in the test extra)
import numpy as np
import soundfile as sf
from scipy.signal import butter, resample_poly, sosfilt

SAMPLE_RATE_HZ = 16_000
ESPEAK_RATE_HZ = 22_050
PEAK = 0.6
# Samples are multiples of this: FLAC stores no zero bits, so the corpus fits into 4 MB, with noise 50 dB below speech.
STEP = 32
EDGE_SECONDS = 0.03
COLUMNS = (
    "utt_id", "audio", "transcript", "speaker", "corpus", "group", "speaker_type",
    "l1", "severity", "prompt_id", "split", "duration_seconds",
)  # fmt: skip

VERBS, PLACES, DIGITS = ("GO", "STOP", "OPEN"), ("LEFT", "UP", "HOME"), ("TWO", "SIX", "NINE")
WORDS = (*VERBS, *PLACES, *DIGITS, "YES")
TEMPLATES = (
    (VERBS, PLACES, DIGITS),
    (("YES",), VERBS, PLACES),
    (DIGITS, DIGITS, VERBS),
    (PLACES, DIGITS, ("YES",)),
    (DIGITS, VERBS, PLACES, DIGITS),
    (VERBS, DIGITS, ("YES",), PLACES),
    (PLACES, VERBS, DIGITS, PLACES),
    (VERBS, PLACES, DIGITS, VERBS, PLACES),
    (("YES",), VERBS, DIGITS, PLACES, DIGITS, PLACES),
)
# At most so many; in this order, so that a template with few sentences leaves some for every split.
PROMPTS_PER_TEMPLATE = {"test": 3, "validation": 3, "train": 14}

# Pronunciation: rewrites (regular expression, replacement) of espeak's phoneme names of one word, in order.
# Only what the ten words contain; diphthongs (aI, oU) are kept whole by the look-behind.
SPANISH = ((r"(?<!a)I", "i"), ("@", "a"), ("V", "a"), ("^s(?=t)", "es"), ("h", "x"))
KOREAN = (("f", "p"), ("V", "a"), (r"(?<=[pt])$", "@"))
HINDI = (("^s(?=t)", "Is"), ("@", "E"), ("oU", "O:"))
MILD = (("ft", "f"),)
SEVERE = (("ft", "f"), (r"^st2?", "t"), ("ks", "s"))


@dataclass(frozen=True)
class Speaker:
    """One synthetic voice: `rate` in words per minute (espeak's floor is 80), `pitch` and `intonation` 0-99."""

    name: str
    speaker_type: str
    variant: str
    rate: int
    pitch: int
    intonation: int = 40
    word_gap: int = 0
    l1: str = "en"
    severity: str = ""
    rules: tuple[tuple[str, str], ...] = ()
    low_pass_hz: int = 0
    test_only: bool = False


SPEAKERS = (
    Speaker("C1", "control", "en-us+m3", 200, 45),
    Speaker("C2", "control", "en-us+f1", 205, 55),
    Speaker("C3", "control", "en-us+f4", 195, 50, test_only=True),
    Speaker("D1", "dysarthric", "en-us+m1", 125, 40, 5, 4, severity="mild", rules=MILD, low_pass_hz=4000),
    Speaker("D2", "dysarthric", "en-us+m5", 105, 35, 0, 8, severity="severe", rules=SEVERE, low_pass_hz=2500),
    Speaker("D3", "dysarthric", "en-us+linda", 130, 50, 5, 4, severity="mild", rules=MILD, low_pass_hz=4000),
    Speaker(
        "D4", "dysarthric", "en-us+m2", 110, 45, 0, 8, severity="severe", rules=SEVERE, low_pass_hz=2500, test_only=True
    ),
    Speaker("L1", "l2", "en-us+m7", 180, 50, l1="es", rules=SPANISH),
    Speaker("L2", "l2", "en-us+steph", 185, 50, l1="ko", rules=KOREAN),
    Speaker("L3", "l2", "en-us+m4", 180, 40, l1="hi", rules=HINDI, test_only=True),
)
# Utterances per speaker: split -> speaker type -> (words, sentences). More than ten words means several takes.
COUNTS = {
    "train": {"control": (12, 18), "dysarthric": (30, 8), "l2": (10, 32)},
    "validation": {"control": (5, 5), "dysarthric": (8, 2), "l2": (3, 7)},
    "test": {"control": (4, 4), "dysarthric": (6, 2), "l2": (2, 5)},
}


@dataclass(frozen=True)
class Utterance:
    """One recording to make: what is said, by whom, and which repetition of that prompt by that speaker it is."""

    speaker: Speaker
    split: str
    words: tuple[str, ...]
    take: int

    @property
    def prompt_id(self) -> str:
        """The words themselves, so that equal prompts have equal ids."""
        return "-".join(self.words).lower()

    @property
    def utt_id(self) -> str:
        """Unique in the corpus, and the name of the file."""
        return f"{self.speaker.name}_{self.prompt_id}_t{self.take}"


def sentence_prompts() -> dict[str, list[tuple[str, ...]]]:
    """Draw the sentences of each split; no sentence is in two splits."""
    rng = random.Random(1)
    prompts: dict[str, list[tuple[str, ...]]] = {split: [] for split in PROMPTS_PER_TEMPLATE}
    for template in TEMPLATES:
        sentences = sorted(s for s in itertools.product(*template) if len(set(s)) == len(s))
        rng.shuffle(sentences)
        remaining = iter(sentences)
        for split, count in PROMPTS_PER_TEMPLATE.items():
            prompts[split] += itertools.islice(remaining, count)
    for chosen in prompts.values():
        rng.shuffle(chosen)
    return prompts


def plan() -> Iterator[Utterance]:
    """List every utterance in the order in which it is spoken."""
    sentences = sentence_prompts()
    takes: dict[tuple[str, tuple[str, ...]], Iterator[int]] = {}
    for split, counts in COUNTS.items():
        word_cycle = itertools.cycle([(word,) for word in WORDS])
        sentence_cycle = itertools.cycle(sentences[split])
        for speaker in SPEAKERS:
            if speaker.test_only and split != "test":
                continue
            num_words, num_sentences = counts[speaker.speaker_type]
            chosen = (*itertools.islice(word_cycle, num_words), *itertools.islice(sentence_cycle, num_sentences))
            for words in chosen:
                take = next(takes.setdefault((speaker.name, words), itertools.count(1)))
                yield Utterance(speaker, split, words, take)


class Espeak:
    """The espeak-ng library of this process (it has one global state, so one object per process)."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        rate_hz = self._library.espeak_Initialize(2, 0, str(espeakng_loader.get_data_path()).encode(), 0)
        if rate_hz != ESPEAK_RATE_HZ:
            raise RuntimeError(f"espeak_Initialize gave {rate_hz}, not {ESPEAK_RATE_HZ}: reinstall espeakng-loader.")
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._chunks: list[bytes] = []
        signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = signature(self._collect)  # kept: the library holds only a bare pointer to it
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, _events: int) -> int:
        if count:
            self._chunks.append(ctypes.string_at(samples, count * 2))
        return 0

    def choose(self, voice: str) -> None:
        """Speak with this voice from now on, for example `en-us+f1`."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"espeak has no voice {voice!r}: see espeak-ng-data/voices/!v for the variants.")

    def phonemes(self, word: str) -> str:
        """Return espeak's phoneme names of one word, with its stress marks."""
        text = ctypes.c_char_p(word.lower().encode())
        return self._library.espeak_TextToPhonemes(ctypes.byref(text), 1, 0).decode().strip()

    def speak(self, phonemes: str, *, rate: int, pitch: int, intonation: int, word_gap: int) -> np.ndarray:
        """Speak phoneme names with the voice chosen last.

        Returns:
            waveform_S: floats in -1..1 at ESPEAK_RATE_HZ.
        """
        self._chunks.clear()
        for parameter, value in ((1, rate), (3, pitch), (4, intonation), (7, word_gap)):
            self._library.espeak_SetParameter(parameter, value, 0)
        text = f"[[{phonemes}]]".encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 0, 0, 1 | 0x100, None, None)
        self._library.espeak_Synchronize()
        return np.frombuffer(b"".join(self._chunks), dtype=np.int16).astype(np.float64) / 32768


def rewrite(phonemes: str, rules: Sequence[tuple[str, str]]) -> str:
    """Apply a speaker's pronunciation rules to the phoneme names of one word."""
    for pattern, replacement in rules:
        phonemes = re.sub(pattern, replacement, phonemes)
    return phonemes


def shape(waveform_S: np.ndarray, speaker: Speaker) -> np.ndarray:
    """Resample, blur and fade (dysarthric speakers), trim silence to EDGE_SECONDS and set the peak."""
    waveform_S = resample_poly(waveform_S, 320, 441)
    if speaker.low_pass_hz:
        low_pass = butter(2, speaker.low_pass_hz, fs=SAMPLE_RATE_HZ, output="sos")
        waveform_S = np.asarray(sosfilt(low_pass, waveform_S))
        waveform_S = waveform_S * np.linspace(1.0, 0.5, len(waveform_S))
    loud = np.flatnonzero(np.abs(waveform_S) > 0.01 * np.abs(waveform_S).max())
    edge = int(EDGE_SECONDS * SAMPLE_RATE_HZ)
    waveform_S = waveform_S[max(loud[0] - edge, 0) : loud[-1] + edge]
    steps_S = np.round(waveform_S * (PEAK * 32767 / STEP / np.abs(waveform_S).max()))
    return (steps_S * STEP).astype(np.int16)


def render(espeak: Espeak, utterance: Utterance) -> np.ndarray:
    """Speak one utterance; rate and pitch vary a little with the take, so no two recordings are alike.

    Returns:
        waveform_S: 16-bit samples at SAMPLE_RATE_HZ.
    """
    speaker = utterance.speaker
    rng = random.Random(utterance.utt_id)
    espeak.choose(speaker.variant)
    spoken = " ".join(rewrite(espeak.phonemes(word), speaker.rules) for word in utterance.words)
    waveform_S = espeak.speak(
        spoken,
        rate=max(80, round(speaker.rate * rng.uniform(0.93, 1.07))),
        pitch=speaker.pitch + rng.randint(-5, 5),
        intonation=speaker.intonation,
        word_gap=speaker.word_gap,
    )
    return shape(waveform_S, speaker)


def manifest_row(utterance: Utterance, waveform_S: np.ndarray, audio: str) -> dict[str, str]:
    """Describe one recording; the keys are COLUMNS."""
    speaker = utterance.speaker
    group = "word" if len(utterance.words) == 1 else "sentence"
    seconds = f"{len(waveform_S) / SAMPLE_RATE_HZ:.3f}"
    values = (
        utterance.utt_id, audio, " ".join(utterance.words), speaker.name, "sample", group, speaker.speaker_type,
        speaker.l1, speaker.severity, utterance.prompt_id, utterance.split, seconds,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write into.")
def main(out: Path) -> None:
    """Speak the sample corpus into OUT: manifest.csv and <speaker>/<utt_id>.flac."""
    espeak = Espeak()
    for speaker in SPEAKERS:
        shutil.rmtree(out / speaker.name, ignore_errors=True)
        (out / speaker.name).mkdir(parents=True)
    rows = []
    for utterance in plan():
        waveform_S = render(espeak, utterance)
        audio = f"{utterance.speaker.name}/{utterance.utt_id}.flac"
        sf.write(out / audio, waveform_S, SAMPLE_RATE_HZ, subtype="PCM_16", compression_level=1.0)
        rows.append(manifest_row(utterance, waveform_S, audio))
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    seconds = sum(float(row["duration_seconds"]) for row in rows)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"{len(rows)} utterances, {seconds:.0f} s, {size / 1e6:.2f} MB in {out}", err=True)


if __name__ == "__main__":
    main()
