"""Miniature copies of UA-Speech and TORGO in the layouts of their releases, with speech of the sample corpus."""

from __future__ import annotations

import io
import random
import zipfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from trainables.corpora.sample import manifest_path

RATE_HZ = 16_000
HEADER_BYTES = 44
#: The words of the miniature UA-Speech: prompt_id -> word.
UA_WORDS = {
    "D3": "THREE", "LX": "X-RAY", "C1": "COMMAND", "C13": "PASTE", "CW1": "THE", "CW100": "YES",
    "B1_UW1": "NATURALIZATION", "B2_UW1": "ABLE-BODIED", "B3_UW1": "GIGANTIC",
}  # fmt: skip
UA_CODES = ("D3", "LX", "C1", "C13", "CW1", "CW100", "UW1")
BLOCKS = ("B1", "B2", "B3")


@cache
def _speech() -> np.ndarray:
    paths = sorted(manifest_path().parent.glob("*/*.flac"))[:12]
    return np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])


def write_speech(path: Path, number: int = 0, samples: int = 3200) -> Path:
    """Write a cut of real (synthetic) speech; another number is another cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_cut(number, samples))
    return path


def shuffled_copy(root: Path, copy: Path) -> Path:
    """Copy a tree file by file in another order, so that a file system may list its folders in another order."""
    files = [path for path in root.rglob("*") if path.is_file()]
    random.Random(0).shuffle(files)
    for path in files:
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return copy


@cache
def _cut(number: int, samples: int) -> bytes:
    start = number * 37 % (len(_speech()) - samples)
    encoded = io.BytesIO()
    soundfile.write(encoded, _speech()[start : start + samples], RATE_HZ, subtype="PCM_16", format="WAV")
    return encoded.getvalue()


def write_header_only(path: Path) -> None:
    soundfile.write(path, np.zeros(0, dtype=np.int16), RATE_HZ, subtype="PCM_16", format="WAV")
    assert path.stat().st_size == HEADER_BYTES


def ua_word(block: str, code: str) -> str:
    return UA_WORDS[f"{block}_{code}" if code.startswith("UW") else code]


def ua_speaker(root: Path, speaker: str, folder: str, mics: str = "M2 M5", codes: tuple[str, ...] = UA_CODES) -> None:
    """Write a speaker's sound files, in three blocks, and the label file."""
    labels = ["#!MLF!#"]
    for block in BLOCKS:
        for code in codes:
            for mic in mics.split():
                name = f"{speaker}_{block}_{code}_{mic}"
                # The name decides the cut: no two recordings are equal, and both layouts hold the same.
                write_speech(root / folder / speaker / f"{name}.wav", zlib.crc32(name.encode()))
                labels += [f'"*/{name}.lab"', ua_word(block, code), "."]
    ua_labels(root, speaker, "\n".join(labels) + "\n")


def ua_labels(root: Path, speaker: str, content: str) -> Path:
    path = root / "mlf" / speaker / f"{speaker}_word.mlf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def xlsx(path: Path, rows: list[list[str]], *, extra_member: tuple[str, bytes] | None = None) -> Path:
    """Write a workbook as spreadsheet programs do: a sheet of speakers first, shared strings, empty cells left out."""
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    strings = sorted({cell for row in rows for cell in row if cell})
    shared = "".join(f"<si><r><t>{text[:1]}</t></r><r><t>{text[1:]}</t></r></si>" for text in strings)
    lines = "".join(
        f'<row r="{number}">'
        + "".join(
            f'<c r="{"ABCDE"[place]}{number}" t="s"><v>{strings.index(cell)}</v></c>'
            for place, cell in enumerate(row)
            if cell
        )
        + "</row>"
        for number, row in enumerate(rows, start=1)
    )
    speakers = '<row r="1"><c r="A1" t="inlineStr"><is><t>Speaker</t></is></c><c r="B1"><v>4</v></c></row>'
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", f"{head}<sst {main}>{shared}</sst>")
        archive.writestr(
            "xl/worksheets/sheet1.xml", f"{head}<worksheet {main}><sheetData>{speakers}</sheetData></worksheet>"
        )
        archive.writestr(
            "xl/worksheets/sheet2.xml", f"{head}<worksheet {main}><sheetData>{lines}</sheetData></worksheet>"
        )
        if extra_member:
            archive.writestr(*extra_member)
    return path


def torgo_session(
    folder: Path, prompts: Mapping[str, str | bytes], *, mics: str = "head array", start: int = 0
) -> Path:
    """Write a session: prompts by number, and a sound file for each of them at each microphone."""
    for place, (number, prompt) in enumerate(prompts.items()):
        text = prompt.encode() if isinstance(prompt, str) else prompt
        (folder / "prompts").mkdir(parents=True, exist_ok=True)
        (folder / "prompts" / f"{number}.txt").write_bytes(text)
        for mic in mics.split():
            write_speech(folder / f"wav_{mic}Mic" / f"{number}.wav", start + 10 * place + len(mic))
    return folder
