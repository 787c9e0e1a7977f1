"""Audio of any rate and format that libsndfile reads becomes 16 kHz mono int16.

S samples, C channels.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr

SAMPLE_RATE_HZ = 16_000
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
        UnusableAudio: unreadable, without samples, with samples that are not finite, or digitally silent.
    """
    try:
        samples_SC, rate_hz = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        raise UnusableAudio("unreadable", str(error)) from error
    samples_S = samples_SC.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ and samples_S.size:
        samples_S = soxr.resample(samples_S, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    if samples_S.size == 0:
        raise UnusableAudio("empty", "no samples")
    if not np.isfinite(samples_S).all():
        raise UnusableAudio("unreadable", "samples that are not finite")
    pcm_S = np.round(np.clip(samples_S, -1.0, 1.0) * _FULL_SCALE).astype(np.int16)
    if not pcm_S.any():
        raise UnusableAudio("silent", "every sample is zero")
    return pcm_S
