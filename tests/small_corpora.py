"""Small copies of L2-ARCTIC and of the Speech Accessibility Project, and stores of tones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import soundfile
from conftest import small_rows, write_manifest

from trainables.corpora import commands
from trainables.corpora.sample import manifest_path

#: Names the model that learns from scratch, as studies do.
TINY = [("tiny", None)]
TEXTS = {
    "arctic_a0001": "Author of the danger trail, Philip Steels, etc.",
    "arctic_a0002": "Not at this particular case, Tom, apologized Whittemore.",
    "arctic_b0003": 'He doesn\'t — "really" — know.',
}
Tree = dict[str, bytes]


def l2_speaker(name: str, sound: bytes) -> Tree:
    """All that the release has of a speaker, with other files beside what is read."""
    tree: Tree = {f"{name}/LICENSE": b"x", f"{name}/wav/.DS_Store": b"x"}
    for stem, text in TEXTS.items():
        tree[f"{name}/wav/{stem}.wav"] = sound
        tree[f"{name}/transcript/{stem}.txt"] = f"{text}\n".encode()
        tree[f"{name}/textgrid/{stem}.TextGrid"] = b"x"
    return tree


def sap_entry(name: str, transcript: object = "Hello there.") -> dict[str, Any]:
    return {"Filename": name, "Prompt": {"Transcript": transcript, "Category Description": "Digital Assistant"}}


def sap_contributor(folder: Path, files: list[Any], sounds: tuple[str, ...], **more: Any) -> None:
    folder.mkdir(parents=True)
    content = {"Etiology": "Parkinson's Disease", "Files": files, **more}
    (folder / f"{folder.name}.json").write_text(json.dumps(content), encoding="utf-8-sig")
    for name in sounds:
        (folder / name).write_bytes(next(iter(manifest_path().parent.glob("D1/*.flac"))).read_bytes())


def rows_of(folder: Path, corpus: str, prefix: str = "", **sizes: int) -> list[dict[str, str]]:
    folder.mkdir(exist_ok=True)
    return [
        {**row, "corpus": corpus, "utt_id": prefix + row["utt_id"], "speaker": f"{corpus}-{row['speaker']}"}
        for row in small_rows(folder, **sizes)
    ]


def stored(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = write_manifest(folder / "manifest.csv", rows)
    commands.prepare("manifest", path, folder / "store")
    return folder / "store"


def louder(folder: Path) -> None:
    """Change every recording of a folder, so that it is not a copy."""
    for path in folder.glob("*.wav"):
        samples, rate_hz = soundfile.read(path)
        soundfile.write(path, samples * 1.5, rate_hz)
