"""An experiment file in today's spelling: the same text, line for line, where nothing has to change.

Keys are renamed and moved to their section, values renamed, and keys without effect become comments with the reason.
Comments, order, `[Paths]` and references stay; a reference to a key that changes is replaced by its value.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.config import load
from launcher.config_file import PATHS, Entry, read_file, text_of
from launcher.config_keys import QUIET, Meaning, meaning, renamed_value
from launcher.config_lines import Block, Page, page_of
from launcher.config_resolve import BASELINE, GROUPS, MARGIN_KEY, STUDY, axis_items, find_output_dir
from launcher.config_schema import SECTIONS, TRAINER


@dataclass(frozen=True)
class _Change:
    """What becomes of a block.

    Attributes:
        targets: (section, key) of what is written instead.
        value: the new value as written; None keeps it.
        reason: why the block becomes a comment; empty when it does not.
    """

    targets: tuple[tuple[str, str], ...] = ()
    value: str | None = None
    reason: str = ""


def converted(path: Path) -> str:
    """Return the text of an experiment file in today's spelling; it loads to an equal configuration.

    Raises:
        ConfigurationError: the file cannot be read, or says what is not understood; with every problem.
    """
    load(path)
    page = page_of(text_of(path))
    entries = {(str(entry.section), entry.key): entry for entry in read_file(path).entries}
    changes = _changes(page, entries)
    _fill_in(page, entries, changes)
    return _text(page, changes)


def _changes(page: Page, entries: dict[tuple[str, str], Entry]) -> dict[Block, _Change]:
    """Decide what becomes of each block that does not stay as it is."""
    folder = _output_dir(page, entries)
    changes = {}
    for block in page.blocks:
        change = _change(block, entries[block.section, block.key], folder)
        if change is not None:
            changes[block] = change
    taken = {(block.section, block.key) for block in page.blocks if block not in changes}
    for block, change in changes.items():
        targets = tuple(target for target in change.targets if target not in taken)
        taken.update(targets)
        if change.targets and not targets:  # two spellings of one key stood there and agreed
            changes[block] = _Change(reason="said twice")
        else:
            changes[block] = _Change(targets, change.value, change.reason)
    return changes


def _output_dir(page: Page, entries: dict[tuple[str, str], Entry]) -> tuple[str, str] | None:
    """Return the folder that `load_model = True` means: what it is, and how it is written anywhere in the file."""
    folder = find_output_dir(entries.values(), ())
    if folder is None:
        return None
    (block,) = (block for block in page.blocks if (block.section, block.key) == (TRAINER, "output_dir"))
    is_portable = all(section == PATHS for section, _ in block.references())
    return folder, block.value if is_portable else _escaped(folder)


def _change(block: Block, entry: Entry, folder: tuple[str, str] | None) -> _Change | None:
    """Return what becomes of one block; None when it stays."""
    if block.section == STUDY:
        return _change_of_axis(block, entry, folder)
    if block.section not in SECTIONS or block.key in QUIET:
        return None
    found = meaning(block.section, block.key, entry.value)
    if not found.targets:
        return _Change(reason=_reason(found))
    old = str(entry.value)
    new = str(renamed_value(found.targets[0], old, folder[0] if folder else None))
    targets = tuple(_split(target) for target in found.targets)
    if targets == ((block.section, block.key),) and new == old:
        return None
    return _Change(targets, None if new == old else _written(new, folder))


def _change_of_axis(block: Block, entry: Entry, folder: tuple[str, str] | None) -> _Change | None:
    if block.key in (BASELINE, GROUPS, MARGIN_KEY):
        return None
    section, dot, key = block.key.rpartition(".")
    found = meaning(section if dot else None, key, entry.value)
    if not found.targets:
        return _Change(reason=_reason(found))
    target = found.targets[0]
    items = axis_items(target, entry.value, always=True)
    new = [renamed_value(target, item, folder[0] if folder else None) for item in items]
    name = block.key if key in QUIET else target if dot else found.spelling
    if name == block.key and new == items:
        return None
    value = None if new == items else ", ".join(_written(str(item), folder) for item in new)
    return _Change(((STUDY, name),), value)


def _reason(found: Meaning) -> str:
    return f"no effect: {found.no_effect}" if found.no_effect else found.refused


def _split(target: str) -> tuple[str, str]:
    section, _, key = target.partition(".")
    return section, key


def _written(new: str, folder: tuple[str, str] | None) -> str:
    return folder[1] if folder is not None and new == folder[0] else _escaped(new)


def _escaped(text: str) -> str:
    return text.replace("$", "$$")


def _fill_in(page: Page, entries: dict[tuple[str, str], Entry], changes: dict[Block, _Change]) -> None:
    """Replace references that would lead nowhere once the keys have changed by the values they stand for."""
    changed = {(block.section, block.key) for block in changes}
    for block in page.blocks:
        change = changes.get(block, _Change(((block.section, block.key),)))
        if change.reason or change.value is not None:
            continue
        moves = any(section != block.section for section, _ in change.targets)
        references = list(block.references())
        lost = any((section or block.section, key) in changed for section, key in references)
        if lost or (moves and any(not section for section, _ in references)):
            value = _escaped(str(entries[block.section, block.key].value))
            changes[block] = _Change(change.targets, value)


def _text(page: Page, changes: dict[Block, _Change]) -> str:
    """Write the lines with the changes; what moves is written behind the last key of its section."""
    last = {block.section: block for block in page.blocks}
    written: dict[int, list[str]] = {}
    moved: dict[str, list[str]] = {}
    for block, change in changes.items():
        written[block.first] = [f"{block.indent}# {line.strip()}" for line in block.lines] if change.reason else []
        if change.reason:
            written[block.first][0] += f"  # {change.reason}"
        for section, key in change.targets:
            home = written[block.first] if section == block.section else moved.setdefault(section, [])
            indent = last[section].indent if section in last else ""
            indent = block.indent if section == block.section else indent
            home += block.with_key(key, indent) if change.value is None else block.with_value(key, change.value, indent)
    lines: list[str] = []
    skip = {number for block in changes for number in range(block.first, block.first + len(block.lines))}
    ends = {block.first + len(block.lines) - 1: name for name, block in last.items()}
    ends |= {number: name for name, number in page.headers.items() if name not in last}
    for number, line in enumerate(page.lines):
        lines += written.get(number, [])
        lines += [] if number in skip else [line]
        name = ends.get(number)
        if name in moved:
            lines += moved.pop(name)
            lines += [] if name in last else [""]
    for section, new in moved.items():
        lines += [f"[{section}]", *new, ""] if not lines[-1] else ["", f"[{section}]", *new, ""]
    return "\n".join(lines)
