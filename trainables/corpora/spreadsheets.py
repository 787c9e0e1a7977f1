"""Read the cells of an .xlsx file, which is a zip of XML, without a spreadsheet library."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from trainables.errors import DataError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_STRINGS, _SHEET = "xl/sharedStrings.xml", re.compile(r"xl/worksheets/[^/]+\.xml")
# The word list of a corpus has some hundred rows; a larger member is a mistake or an attack.
_MAX_MEMBER_BYTES = 64 * 2**20
# RuntimeError: encrypted, or compressed in a way that is not known.
_DAMAGE = (
    OSError, zipfile.BadZipFile, zlib.error, EOFError, ElementTree.ParseError, RuntimeError, ValueError, IndexError,
)  # fmt: skip


def rows(path: Path, columns: set[str]) -> list[list[str]]:
    """Return the rows of the first sheet whose first row has the columns (any case), as text.

    Raises:
        DataError: no .xlsx file, or no sheet has these columns.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            shared = _shared(_xml(archive, _STRINGS)) if _STRINGS in names else []
            for name in sorted(name for name in names if _SHEET.fullmatch(name)):
                found = list(_cells(_xml(archive, name), shared))
                if found and columns <= {cell.strip().upper() for cell in found[0]}:
                    return found
    except _DAMAGE as error:
        raise DataError(f"{path} cannot be read as .xlsx ({error}); save it again, or as .csv") from error
    raise DataError(f"{path}: no sheet has the columns {', '.join(sorted(columns))} in its first row")


def _xml(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > _MAX_MEMBER_BYTES:
        raise ValueError(f"{name} unpacks to {archive.getinfo(name).file_size} bytes; allowed: {_MAX_MEMBER_BYTES}")
    return ElementTree.fromstring(archive.read(name))


def _shared(root: ElementTree.Element) -> list[str]:
    return ["".join(text.text or "" for text in item.iter(f"{_MAIN}t")) for item in root.iter(f"{_MAIN}si")]


def _cells(sheet: ElementTree.Element, shared: list[str]) -> Iterator[list[str]]:
    for row in sheet.iter(f"{_MAIN}row"):
        cells: list[str] = []
        for cell in row.iter(f"{_MAIN}c"):
            # Empty cells are left out of the file; the reference (B7) says where a cell stands.
            reference = re.match(r"[A-Z]{1,3}", cell.get("r", ""))
            place = _place(reference[0]) if reference else len(cells)
            cells += [""] * (place + 1 - len(cells))
            cells[place] = _value(cell, shared)
        yield cells


def _place(letters: str) -> int:
    place = 0
    for letter in letters:
        place = place * 26 + ord(letter) - ord("A") + 1
    return place - 1


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(text.text or "" for text in cell.iter(f"{_MAIN}t"))
    value = cell.findtext(f"{_MAIN}v") or ""
    return shared[int(value)] if cell.get("t") == "s" else value
