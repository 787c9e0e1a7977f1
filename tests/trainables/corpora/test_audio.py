from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import soundfile
from conftest import tone

from trainables.corpora import audio
from trainables.corpora.audio import SAMPLE_RATE_HZ, UnusableAudio


def encoded(
    samples: np.ndarray, rate_hz: int = SAMPLE_RATE_HZ, *, format: str = "WAV", subtype: str = "FLOAT"
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=format, subtype=subtype)
    return file.getvalue()


def every_step() -> np.ndarray:
    """Each value that 16 bits can have, once."""
    return np.random.default_rng(1).permutation(np.arange(-32_768, 32_768)).astype(np.int16)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "AIFF"])
def test_sixteen_bits_at_16_khz_come_out_as_they_went_in(format: str) -> None:
    assert (audio.decode(encoded(every_step(), format=format, subtype="PCM_16")) == every_step()).all()


def test_finer_steps_are_rounded_and_not_cut() -> None:
    thirds = (every_step()[:8000].clip(-32_000, 32_000) + 1 / 3).astype(np.float32) / 32_768
    assert (audio.decode(encoded(thirds)) == every_step()[:8000].clip(-32_000, 32_000)).all()
    assert (audio.decode(encoded(-thirds)) == -every_step()[:8000].clip(-32_000, 32_000)).all()


def test_one_sound_in_several_encodings_has_one_hash() -> None:
    kinds = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("CAF", "ALAC_16")]
    scaled = every_step() / 32_768
    found = {audio.read(encoded(scaled, format=format, subtype=subtype)).sha256 for format, subtype in kinds}
    assert len(found) == 1
    for other in (
        encoded(scaled, 44_100), encoded(scaled[:-1]), encoded(-scaled), encoded(np.stack([scaled, scaled], 1)),
    ):  # fmt: skip
        assert audio.read(other).sha256 not in found


def test_a_coding_that_loses_something_is_known_by_the_bytes_of_the_file() -> None:
    vorbis = encoded(tone(0.5), format="OGG", subtype="VORBIS")
    assert audio.read(vorbis).sha256 == hashlib.sha256(vorbis).hexdigest()


def test_the_channels_of_a_file_are_counted() -> None:
    assert audio.read(encoded(np.stack([tone(0.5), tone(0.5)], 1))).channels == 2
    assert audio.read(encoded(tone(0.5))).channels == 1


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
    samples = audio.decode(encoded(signal.astype(np.float32), rate_hz)) / 32_768
    middle = samples[1000:-1000]
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / SAMPLE_RATE_HZ)[1000:-1000]
    assert np.abs(middle - expected).max() < 2e-3


def test_loud_audio_is_clipped_and_does_not_wrap() -> None:
    samples = audio.decode(encoded(20 * tone(0.5)))
    assert (samples.min(), samples.max()) == (-32_768, 32_767)


def test_channels_of_a_file_and_files_of_a_recording_are_averaged_alike() -> None:
    left, right = tone(0.5, 300.0), tone(0.5, 410.0)
    stereo = audio.decode(encoded(np.stack([left, right], axis=1)))
    files = audio.as_int16(audio.mean([audio.read(encoded(one)).samples_S for one in (left, right)]))
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


def test_what_is_said_of_an_unreadable_file_is_the_same_each_time() -> None:
    said = []
    for _ in range(2):
        with pytest.raises(UnusableAudio) as caught:
            audio.decode(b"no sound file")
        said.append(caught.value.detail)
    assert said[0] == said[1]
    assert "0x" not in said[0]
    assert "not recognised" in said[0].lower()
