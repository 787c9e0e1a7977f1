"""Audio of any rate and format that libsndfile reads becomes 16 kHz mono int16.

S samples, C channels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

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
_FULL_SCALE = 32_767.0


class UnusableAudio(ValueError):
    """The bytes are no audio that can be trained on; `reason` is the word for the rejects table."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def decode(encoded: bytes) -> np.ndarray:
    """Decode a sound file and bring it to 16 kHz mono (mean of the channels, soxr "HQ" resampling).

    Returns:
        samples_S, int16; full scale is 32,767.

    Raises:
        UnusableAudio: as `waveform` and `as_int16`.
    """
    return as_int16(waveform(encoded))


def waveform(encoded: bytes) -> np.ndarray:
    """Decode a sound file to 16 kHz mono.

    Returns:
        samples_S, float32, full scale 1.

    Raises:
        UnusableAudio: unreadable, longer than `LONGEST_HOURS`, without samples, or with samples that are not finite.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(encoded)) as file:
            rate_hz = file.samplerate
            # Reading takes memory for as many frames as the header claims.
            if file.frames > LONGEST_HOURS * 3600 * rate_hz or file.frames * file.channels > MOST_SAMPLES:
                claim = f"{file.frames:,} frames of {file.channels} channels at {rate_hz:,} Hz"
                raise UnusableAudio("unreadable", f"its header claims {claim}; at most {LONGEST_HOURS} h are read")
            samples_SC = file.read(dtype="float32", always_2d=True)
    except UnusableAudio:
        raise
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        raise UnusableAudio("unreadable", str(error)) from error
    samples_S = samples_SC.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ and samples_S.size:
        samples_S = soxr.resample(samples_S, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    if samples_S.size == 0:
        raise UnusableAudio("empty", "no samples")
    if not np.isfinite(samples_S).all():
        raise UnusableAudio("unreadable", "samples that are not finite")
    return samples_S


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
    return np.round(np.clip(samples_S, -1.0, 1.0) * _FULL_SCALE).astype(np.int16)
