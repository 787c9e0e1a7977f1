"""Where the keys of an experiment file stand: its lines as configparser groups them, comments and all."""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

_COMMENT = re.compile(r"(?:^|(?<=\s))[#;]")
_OPTION = re.compile(r"(?P<key>.*?)(?P<equals>\s*[=:]\s*)")
_REFERENCE = re.compile(r"\$\$|\$\{(?P<path>[^}]+)\}")


@dataclass(frozen=True)
class Block:
    """One key with its value, over one line or several.

    Attributes:
        section: the section it stands in.
        key: its name as written.
        first: number of its first line, from 0.
        lines: the lines as they stand.
    """

    section: str
    key: str
    first: int
    lines: tuple[str, ...]

    @property
    def indent(self) -> str:
        """The white space before the key."""
        return self.lines[0][: _depth(self.lines[0])]

    @property
    def value(self) -> str:
        """The value as written, without comments."""
        first, *rest = (content_of(line).strip() for line in self.lines)
        return "\n".join([_OPTION.sub("", first, count=1), *rest])

    def references(self) -> Iterator[tuple[str, str]]:
        """Yield the (section, key) that the value refers to; the section is empty for the block's own."""
        for match in _REFERENCE.finditer(self.value):
            if match["path"]:
                section, _, key = match["path"].rpartition(":")
                yield section, key

    def with_key(self, key: str, indent: str) -> list[str]:
        """Return the lines under another key, at another depth."""
        first = _OPTION.sub(lambda match: key + match["equals"], self.lines[0].strip(), count=1)
        return [indent + first, *(f"{indent}    {line.strip()}" for line in self.lines[1:])]

    def with_value(self, key: str, value: str, indent: str) -> list[str]:
        """Return a line with another key and value; comments stay."""
        match = _OPTION.match(self.lines[0].strip())
        assert match is not None, "a block begins with an option"
        comments = [line[len(content_of(line)) :].strip() for line in self.lines]
        text = value.replace("\n", f"\n{indent}    ")
        return [f"{indent}{key}{match['equals'].rstrip()} {text}{'  '.join(['', *filter(None, comments)])}"]


@dataclass(frozen=True)
class Page:
    """The lines of a file, its blocks in order, and the number of the line of each section's header."""

    lines: list[str]
    blocks: list[Block] = field(default_factory=list)
    headers: dict[str, int] = field(default_factory=dict)


def content_of(line: str) -> str:
    """Return a line without its comment, which begins at a '#' or ';' that is first or follows white space."""
    match = _COMMENT.search(line)
    return line if match is None else line[: match.start()]


def page_of(text: str) -> Page:
    """Group the lines of a file that configparser has read without a fault, in the same way."""
    page = Page(text.split("\n"))
    section, level, is_open = "", 0, False
    for number, line in enumerate(page.lines):
        content = content_of(line).strip()
        if not content:
            level = sys.maxsize  # whatever follows begins something new
        elif is_open and _depth(line) > level:
            last = page.blocks.pop()
            page.blocks.append(Block(last.section, last.key, last.first, (*last.lines, line)))
        else:
            level = _depth(line)
            header = configparser.ConfigParser.SECTCRE.match(content)
            option = _OPTION.match(content)
            is_open = header is None
            if header is not None:
                section = header["header"]
                page.headers[section] = number
            elif option is not None:
                page.blocks.append(Block(section, option["key"], number, (line,)))
    return page


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
