"""A spreadsheet that is damaged, wherever it is, is one clear message."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from trainables.corpora import spreadsheets
from trainables.errors import DataError

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_CELLS = "".join(f'<c t="inlineStr"><is><t>{text}</t></is></c>' for text in ("Word", "File name"))
SHEET = f'<worksheet xmlns="{_MAIN}"><sheetData><row>{_CELLS}</row></sheetData></worksheet>'


def test_any_damaged_byte_gives_the_rows_or_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "words.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", SHEET)
    whole, columns = path.read_bytes(), {"WORD", "FILE NAME"}
    assert spreadsheets.rows(path, columns) == [["Word", "File name"]]
    damaged = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            assert spreadsheets.rows(path, columns) == [["Word", "File name"]]
        except DataError:
            damaged += 1
    assert damaged > len(whole) / 2
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="save it again"):
        spreadsheets.rows(path, columns)
