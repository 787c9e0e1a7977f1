from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from conftest import tone

from trainables.corpora import audio
from trainables.corpora.audio import SAMPLE_RATE_HZ, UnusableAudio


def encoded(samples: np.ndarray, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize(
    ("reason", "samples"),
    [
        ("empty", np.zeros(0)),
        ("too_short", tone(0.0999)),
        ("too_short", np.zeros(132)),
        ("silent", np.zeros(8000)),
        ("silent", np.full(8000, 0.3)),
        ("silent", 5e-5 * tone(0.5) / tone(0.5).std()),
        ("unreadable", np.full(8000, np.nan)),
    ],
)
def test_what_nobody_can_hear_is_refused_with_its_reason(reason: str, samples: np.ndarray) -> None:
    with pytest.raises(UnusableAudio, match=reason) as raised:
        audio.decode(encoded(samples))
    assert raised.value.reason == reason


def test_quiet_and_short_speech_is_kept() -> None:
    quiet = 2e-4 * tone(0.1) / tone(0.1).std()
    assert len(audio.decode(encoded(quiet))) == 1600


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_level_and_pitch_and_leaves_no_alias(rate_hz: int) -> None:
    time = np.arange(rate_hz) / rate_hz
    signal = 0.5 * np.sin(2 * np.pi * 440 * time)
    if rate_hz > SAMPLE_RATE_HZ:
        signal = signal + 0.3 * np.sin(
            2 * np.pi * 9_500 * time
        )  # above half of 16 kHz: must vanish, not fold to 6.5 kHz
    samples = audio.decode(encoded(signal.astype(np.float32), rate_hz)) / 32_767
    middle = samples[1000:-1000]
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / SAMPLE_RATE_HZ)[1000:-1000]
    assert np.abs(middle - expected).max() < 2e-3


def test_loud_audio_is_clipped_and_does_not_wrap() -> None:
    assert audio.decode(encoded(20 * tone(0.5))).min() == -32_767


def test_channels_of_a_file_and_files_of_a_recording_are_averaged_alike() -> None:
    left, right = tone(0.5, 300.0), tone(0.5, 410.0)
    stereo = audio.decode(encoded(np.stack([left, right], axis=1)))
    files = audio.as_int16(audio.mean([audio.waveform(encoded(left)), audio.waveform(encoded(right))]))
    assert np.abs(stereo.astype(int) - files).max() <= 1


def test_a_header_that_claims_days_is_refused_before_memory_is_taken() -> None:
    file = io.BytesIO()
    soundfile.write(file, tone(0.5), SAMPLE_RATE_HZ, format="FLAC")
    flac = bytearray(file.getvalue())
    for frames in (audio.LONGEST_HOURS * 3600 * SAMPLE_RATE_HZ + 1, 2**36 - 1):
        # The last 36 bits before the MD5 sum of the header: bytes 21 (its lower half) to 25.
        flac[21] = flac[21] & 0xF0 | frames >> 32
        flac[22:26] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
        with pytest.raises(UnusableAudio, match="its header claims") as raised:
            audio.decode(bytes(flac))
        assert raised.value.reason == "unreadable"
