"""Audio of any rate and format that libsndfile reads becomes 16 kHz mono int16.

S samples, C channels.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

SAMPLE_RATE_HZ = 16_000
#: Five frames of wav2vec2; nothing that is said is shorter.
SHORTEST_SECONDS = 0.1
#: Longer "utterances", and more samples over all channels (4 GiB as float32), are what a damaged header claims.
LONGEST_HOURS, MOST_SAMPLES = 6, 1 << 30
#: Root mean square around the mean, full scale = 1: -80 dB, three steps of 16 bits. No recorded room is as quiet.
QUIETEST_RMS = 1e-4
# What libsndfile divides 16-bit samples by, so that they come out as they went in.
_FULL_SCALE = 32_768
# What is coded without loss, so that every version of the decoder gives the same samples on every machine.
_LOSSLESS = frozenset(
    "PCM_S8 PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW ALAC_16 ALAC_20 ALAC_24 ALAC_32".split()
)


class UnusableAudio(ValueError):
    """The bytes are no audio that can be trained on; `reason` is the word for the rejects table."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Sound:
    """What a sound file holds.

    Attributes:
        samples_S: at 16 kHz, mono, float32, full scale 1.
        sha256: hash of rate and samples as they were decoded, so that one sound as WAV and as FLAC has one hash; of the
            bytes of the file where its coding loses something (MP3, Vorbis, Opus ...) and decoders may differ.
        channels: how many were averaged.
    """

    samples_S: np.ndarray
    sha256: str
    channels: int


def decode(encoded: bytes) -> np.ndarray:
    """Decode a sound file and bring it to 16 kHz mono (mean of the channels, soxr "HQ" resampling).

    Returns:
        samples_S, int16; 16-bit samples of a mono file at 16 kHz come out as they went in.

    Raises:
        UnusableAudio: as `read` and `as_int16`.
    """
    return as_int16(read(encoded).samples_S)


def read(encoded: bytes) -> Sound:
    """Decode a sound file to 16 kHz mono.

    Raises:
        UnusableAudio: unreadable, longer than `LONGEST_HOURS`, without samples, or with samples that are not finite.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(encoded)) as file:
            rate_hz, subtype = file.samplerate, file.subtype
            # Reading takes memory for as many frames as the header claims.
            if file.frames > LONGEST_HOURS * 3600 * rate_hz or file.frames * file.channels > MOST_SAMPLES:
                claim = f"{file.frames:,} frames of {file.channels} channels at {rate_hz:,} Hz"
                raise UnusableAudio("unreadable", f"its header claims {claim}; at most {LONGEST_HOURS} h are read")
            samples_SC = file.read(dtype="float32", always_2d=True)
    except UnusableAudio:
        raise
    except soundfile.LibsndfileError as error:
        # Its text begins with the address of the buffer, which is another one each time.
        raise UnusableAudio("unreadable", error.error_string) from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise UnusableAudio("unreadable", str(error)) from error
    samples_S = samples_SC.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ and samples_S.size:
        samples_S = soxr.resample(samples_S, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    if samples_S.size == 0:
        raise UnusableAudio("empty", "no samples")
    if not np.isfinite(samples_S).all():
        raise UnusableAudio("unreadable", "samples that are not finite")
    sha256 = _hash(samples_SC, rate_hz) if subtype in _LOSSLESS else hashlib.sha256(encoded).hexdigest()
    return Sound(samples_S, sha256, samples_SC.shape[1])


def _hash(samples_SC: np.ndarray, rate_hz: int) -> str:
    whole = hashlib.sha256(f"{rate_hz} {samples_SC.shape[1]} ".encode())
    whole.update(np.ascontiguousarray(samples_SC, dtype="<f4").data)
    return whole.hexdigest()


def mean(channels: Sequence[np.ndarray]) -> np.ndarray:
    """Average recordings of one utterance by several microphones, without shifting them against each other.

    Args:
        channels: samples_S of each; where one ends early, the others alone are averaged.
    """
    if len(channels) == 1:
        return channels[0]
    longest = max(len(samples_S) for samples_S in channels)
    total_S, count_S = np.zeros(longest, dtype=np.float32), np.zeros(longest, dtype=np.float32)
    for samples_S in channels:
        total_S[: len(samples_S)] += samples_S
        count_S[: len(samples_S)] += 1
    return total_S / count_S


def check(samples_S: np.ndarray) -> None:
    """Refuse a waveform at 16 kHz that cannot be trained on.

    Raises:
        UnusableAudio: shorter than `SHORTEST_SECONDS`, or silent.
    """
    seconds = len(samples_S) / SAMPLE_RATE_HZ
    if seconds < SHORTEST_SECONDS:
        raise UnusableAudio("too_short", f"{seconds:.4f} s, below {SHORTEST_SECONDS:g} s")
    rms = float(np.std(samples_S, dtype=np.float64))
    if rms < QUIETEST_RMS:
        raise UnusableAudio("silent", f"RMS {rms:.2g} of full scale, below {QUIETEST_RMS:g}")


def as_int16(samples_S: np.ndarray) -> np.ndarray:
    """Quantise a waveform at 16 kHz that can be trained on.

    Raises:
        UnusableAudio: as `check`.
    """
    check(samples_S)
    return np.clip(np.round(samples_S * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
