"""The sample corpus that ships with the package: synthetic speech, made by tools/make_sample_corpus.py.

Source: espeak-ng voices; licence: that of this project; 16 kHz mono FLAC. Good for a first run and for tests, not as
evidence about real dysarthric or second-language speech.
"""

from __future__ import annotations

from pathlib import Path


def manifest_path() -> Path:
    """Return where the manifest of the sample corpus lies."""
    return Path(__file__).parent / "sample_audio" / "manifest.csv"
