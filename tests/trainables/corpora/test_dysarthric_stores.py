"""Copies of UA-Speech and TORGO with planted defects become stores; what is lost is said with its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from dysarthric_trees import torgo_session, ua_speaker, write_header_only, write_speech

from trainables.corpora import commands
from trainables.corpora.store import Store

WORDS = "one two three four five six seven eight nine ten stick trouble yes no up down left right back home".split()


@pytest.fixture(scope="module")
def uaspeech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copies") / "UA"
    for speaker, folder, mics in (("F03", "", "M2 M3 M5"), ("M16", "", "M5 M8"), ("CF02", "control", "M3 M5")):
        ua_speaker(root, speaker, f"audio/{folder}", mics)
    write_header_only(root / "audio/F03/F03_B3_C13_M2.wav")
    (root / "audio/M16/M16_B3_CW1_M8.wav").write_bytes(b"\0" * 500)
    write_speech(root / "audio/F03/F03_B1_UW2_M5.wav")
    return root


@pytest.mark.parametrize(
    ("mic", "kept", "rejected"),
    [
        ("M5", 63, {"no_transcript": 1}),
        ("M2", 62, {"no_transcript": 1, "empty": 1}),
        ("mean", 63, {"no_transcript": 1}),
        ("all", 145, {"no_transcript": 1, "empty": 1, "unreadable": 1}),
    ],
)
def test_uaspeech_loses_nothing_without_a_reason(
    uaspeech: Path, tmp_path: Path, mic: str, kept: int, rejected: dict[str, int]
) -> None:
    commands.prepare("uaspeech", uaspeech, tmp_path / "store", options=[f"mic={mic}"], workers=1)
    store = Store.open(tmp_path / "store")
    assert len(store.columns(["utt_id"])["utt_id"]) == kept
    assert Counter(reject["reason"] for reject in store.rejects()) == rejected
    columns = store.columns(["speaker", "severity", "block", "split"])
    assert set(zip(columns["speaker"], columns["severity"])) == {
        ("UA-F03", "very low"), ("UA-M16", "low"), ("UA-CF02", ""),
    }  # fmt: skip
    assert {split for block, split in zip(columns["block"], columns["split"]) if block == "B2"} == {"test"}


def test_torgo_loses_nothing_without_a_reason(tmp_path: Path) -> None:
    for place, folder in enumerate(("F/F01", "MC/MC01")):
        prompts = {f"{number:04d}": word for number, word in enumerate(WORDS)}
        torgo_session(tmp_path / "copy" / folder / "Session1", prompts, start=1000 * place)
    session = tmp_path / "copy/F/F01/Session1"
    write_speech(session / "wav_headMic/0003.wav", number=60, samples=132)
    (session / "wav_headMic/0004.wav").write_bytes(b"RIFF" + b"\0" * 500)
    (session / "prompts/0005.txt").write_text("input/images/boat.jpg")
    (session / "prompts/0006.txt").write_text("tear [as in tear up that paper]")
    commands.prepare("torgo", tmp_path / "copy", tmp_path / "store", workers=1)
    store = Store.open(tmp_path / "store")
    assert {reject["utt_id"][-9:-5]: reject["reason"] for reject in store.rejects()} == {
        "0003": "too_short", "0004": "unreadable", "0005": "image_prompt",
    }  # fmt: skip
    columns = store.columns(["utt_id", "transcript", "split", "prompt_id"])
    assert len(columns["utt_id"]) == 2 * len(WORDS) - 3
    assert "TEAR" in columns["transcript"]
    assert set(columns["split"]) == {"train", "validation", "test"}
    assert columns["prompt_id"] == columns["transcript"]
