"""What each entry of a configuration means: a value, an axis, an old spelling (a warning), or a problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.config_file import PATHS, Entry
from launcher.config_keys import (
    LOAD_MODEL,
    OUTPUT_DIR,
    QUIET,
    REMARKS,
    Meaning,
    asks_for_nothing,
    is_true,
    meaning,
    renamed_value,
)
from launcher.config_schema import SECTIONS, TRAINER, convert, keys, takes_list
from launcher.config_values import is_none, nearest, read_text, short, shown, split_values

STUDY = "Study"
#: Keys of [Study] that are no axes.
BASELINE, GROUPS, MARGIN_KEY = "baseline", "groups", "margin"
#: Absolute WER: variants that differ by less are held to be the same, where a study does not say otherwise.
MARGIN = 0.01
# A file with more problems than this is no experiment file; each costs a search for the nearest key.
_MOST_PROBLEMS = 100


@dataclass
class Draft:
    """A configuration while it is put together.

    Attributes beside those of `launcher.config.Configuration`:
        problems: what is wrong.
        output_dir: the folder that `load_model = True` of old files means; None where none is given.
        loads_output_dir: whether it stood for that.
    """

    values: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    baseline: str | None = None
    groups: tuple[str, ...] = ("group",)
    margin: float = MARGIN
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    output_dir: str | None = None
    loads_output_dir: bool = False


def known_sections(draft: Draft, entries: Iterable[Entry], sections: Iterable[str], place: str) -> list[Entry]:
    """Return the entries of the sections that exist; note each other section once."""
    for name in sections:
        if name not in (*SECTIONS, STUDY, PATHS):
            draft.problems.append(f"[{short(name)}] of {place}: {_unknown_section(name)}")
    return [entry for entry in entries if entry.section in (*SECTIONS, STUDY)]


def find_output_dir(entries: Iterable[Entry], overrides: Sequence[str]) -> str | None:
    """Return the last value given for output_dir, which is looked at for `load_model = True` alone."""
    given = [entry.value for entry in entries if entry.key == OUTPUT_DIR and entry.section == TRAINER]
    for override in overrides:
        name, _, value = override.partition("=")
        if name.strip() in (OUTPUT_DIR, f"{TRAINER}.{OUTPUT_DIR}"):
            given.append(value)
    text = str(given[-1]).strip() if given else ""
    return None if not text or is_none(text) else text


def forget_output_dir(draft: Draft) -> None:
    """Take the warning back that output_dir has no effect, where `load_model = True` has used it."""
    if draft.loads_output_dir:
        draft.warnings = [text for text in draft.warnings if f": {OUTPUT_DIR} has no effect" not in text]


def apply_values(draft: Draft, entries: Iterable[Entry], *, drop_axes: bool = False) -> None:
    """Set the values of a layer (a file, or given values); in it no key may be given twice differently.

    Args:
        draft: where the values go; what is there already is replaced.
        entries: one per key.
        drop_axes: a key that is set is no axis any more.
    """
    given: dict[str, Entry] = {}
    for entry in entries:
        if _is_full(draft):
            return
        for target in _live_targets(draft, entry):
            problems, value = _typed(draft, target, entry)
            draft.problems.extend(problems)
            if problems:
                continue
            if target in given and draft.values[target] != value:
                draft.problems.append(f"{entry.label}: it contradicts {given[target].label}; keep one of them")
            given[target] = entry
            draft.values[target] = value
            if drop_axes:
                draft.axes.pop(target, None)


def apply_study(draft: Draft, entries: Iterable[Entry]) -> None:
    """Read [Study]: baseline, groups, margin and the axes."""
    for entry in entries:
        if _is_full(draft):
            return
        if entry.key in _SETTERS:
            _SETTERS[entry.key](draft, entry)
        else:
            section, dot, key = entry.key.rpartition(".")
            _set_axis(draft, Entry(section if dot else None, key, entry.value, entry.label), always=True)


def apply_overrides(draft: Draft, overrides: Sequence[str]) -> None:
    """Apply what followed `--set`, in order."""
    for override in overrides:
        name, equals, value = override.partition("=")
        section, dot, key = name.strip().rpartition(".")
        entry = Entry(section if dot else None, key.strip(), value, f"--set {shown(override)}")
        if not equals:
            draft.problems.append(_without_equals(entry))
        elif key in _SETTERS and section in ("", STUDY):
            _SETTERS[key](draft, entry)
        else:
            _set_axis(draft, entry, always=False)


def _is_full(draft: Draft) -> bool:
    """Return whether to stop looking; says so once."""
    if len(draft.problems) == _MOST_PROBLEMS:
        draft.problems.append("there are too many problems; the rest was not checked")
    return len(draft.problems) > _MOST_PROBLEMS


def _unknown_section(name: str) -> str:
    allowed = [*SECTIONS, STUDY, PATHS]
    # People shorten the names to their first word, so that is compared too.
    spellings = {spelling.lower(): full for full in allowed for spelling in (full.split()[0], full)}
    found = nearest(name.lower(), spellings)
    hint = f"did you mean [{spellings[found]}]?" if found else f"there are {', '.join(allowed)}"
    return f"unknown section; {hint}"


def _without_equals(entry: Entry) -> str:
    """Return what to say of a `--set` without a value: the key it may have been meant for."""
    homes = {name: home for home in SECTIONS for name in keys(home)}
    near = nearest(entry.key, homes)
    place = f" (a key of [{homes[near]}])" if near else ""
    return f"{entry.label}: '=' and a value are missing; write --set {near or 'KEY'}=VALUE{place}"


def _look_up(draft: Draft, entry: Entry) -> Meaning:
    """Find out what a key means; what it sets nothing for is noted."""
    if entry.section is not None and entry.section not in SECTIONS:
        draft.problems.append(f"{entry.label}: {_unknown_section(entry.section)}")
        return Meaning()
    found = meaning(entry.section, entry.key, entry.value)
    if found.unknown:
        draft.problems.append(f"{entry.label}: {found.unknown}")
    elif found.no_effect:
        draft.warnings.append(f"{entry.label}: {found.spelling} has no effect; {found.no_effect}")
    elif found.refused and asks_for_nothing(entry.value):
        draft.warnings.append(f"{entry.label}: {found.spelling} has no effect in this version; leave it out")
    elif found.refused:
        draft.problems.append(f"{entry.label}: {found.spelling} {found.refused}; leave it out")
    return found


def _live_targets(draft: Draft, entry: Entry) -> tuple[str, ...]:
    """Return the "Section.key" that an entry sets."""
    found = _look_up(draft, entry)
    _warn_of_spelling(draft, entry, found, [entry.value])
    return found.targets


def _warn_of_spelling(draft: Draft, entry: Entry, found: Meaning, items: list[Any]) -> None:
    """Warn, once for a key, where the spelling of the key, a value or the section is not today's."""
    if not found.targets or entry.key in QUIET:
        return
    target = found.targets[0]
    home = target.partition(".")[0]
    today = items if entry.literal else [renamed_value(target, item, draft.output_dir) for item in items]
    if today != items or found.spelling != entry.key or entry.section not in (home, None):
        keys = " and ".join(target.partition(".")[2] for target in found.targets)
        values = shown(", ".join(map(str, today)))[1:-1]
        remarks = [REMARKS[target, new] for new, old in zip(today, items) if new != old and (target, new) in REMARKS]
        remark = f" ({remarks[0]})" if remarks else ""
        draft.warnings.append(f"{entry.label}: today this is written {keys} = {values} in [{home}]{remark}")


def _typed(draft: Draft, target: str, entry: Entry) -> tuple[list[str], Any]:
    """Return the typed value of an entry, or what is wrong with it."""
    value = entry.value if entry.literal else renamed_value(target, entry.value, draft.output_dir)
    try:
        if target == LOAD_MODEL and is_true(value) and not entry.literal:
            raise ValueError(f"True means the folder in {OUTPUT_DIR} of [{TRAINER}], and none is given; write its name")
        draft.loads_output_dir |= target == LOAD_MODEL and is_true(entry.value) and not entry.literal
        value = convert(target, value, literal=entry.literal)
        if entry.key == "warmup_ratio" and not 0 <= value < 1:
            raise ValueError("a share of the steps, from 0 up to, but not, 1, is needed")
    except ValueError as error:
        listed = isinstance(entry.value, str) and "," in entry.value and not takes_list(target)
        hint = f"; the values of an axis belong in [{STUDY}]" if listed and entry.section in SECTIONS else ""
        return [f"{entry.label}: {error}{hint}"], None
    return [], value


def axis_items(target: str, value: Any, *, always: bool) -> list[Any]:
    """Return the single values of an axis; a list in brackets is one value of a key that takes lists."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, (list, tuple, range)) else [value]
    if not always and takes_list(target) and not value.strip().startswith(("[", "{")):
        return [value]
    return list(split_values(value))


def _set_axis(draft: Draft, entry: Entry, *, always: bool) -> None:
    """Read an axis; one value alone is an axis only in [Study] (`always`), a plain value after `--set`."""
    found = _look_up(draft, entry)
    if not found.targets:
        return
    target, *others = found.targets
    try:
        items = axis_items(target, entry.value, always=always)
    except ValueError as error:
        draft.problems.append(f"{entry.label}: {error}")
        return
    if len(items) == 1 and not always:
        apply_values(draft, [dataclasses.replace(entry, value=items[0])], drop_axes=True)
    elif others:
        keys = " or ".join(found.targets)
        draft.problems.append(f"{entry.label}: it stands for two keys, so it is no axis; write {keys}")
    elif not items:
        draft.problems.append(f"{entry.label}: an axis needs at least one value")
    elif always and target in draft.axes:
        draft.problems.append(f"{entry.label}: [{STUDY}] has this axis already, under another spelling")
    else:
        _warn_of_spelling(draft, entry, found, items)
        draft.axes[target] = _values_of_axis(draft, entry, target, items)


def _values_of_axis(draft: Draft, entry: Entry, target: str, items: list[Any]) -> tuple[Any, ...]:
    values: list[Any] = []
    for item in items:
        problems, value = _typed(draft, target, dataclasses.replace(entry, value=item))
        draft.problems.extend(f"{problem} (the value {shown(item)})" for problem in problems)
        if not problems and value in values:
            draft.problems.append(f"{entry.label}: the value {shown(item)} stands there twice")
        values.append(value)
        if _is_full(draft):
            break
    return tuple(values)


def _set_baseline(draft: Draft, entry: Entry) -> None:
    try:
        text = read_text(str(entry.value))
    except ValueError as error:
        draft.problems.append(f"{entry.label}: {error}")
        return
    nothing = not text.words or (is_none(text.words) and not text.quoted)
    draft.baseline = None if nothing else text.words


def _set_groups(draft: Draft, entry: Entry) -> None:
    try:
        items = split_values(entry.value) if isinstance(entry.value, str) else [str(item) for item in entry.value]
        names = tuple(read_text(item).words for item in items)
    except (TypeError, ValueError) as error:
        draft.problems.append(f"{entry.label}: {error}; write the columns of the manifest, such as groups = group, l1")
        return
    if not names or not all(names) or len(set(names)) < len(names):
        draft.problems.append(f"{entry.label}: name at least one column of the manifest, each once")
    draft.groups = names


def _set_margin(draft: Draft, entry: Entry) -> None:
    try:
        margin = float(str(entry.value).strip())
    except ValueError:
        margin = 0.0
    if not 0 < margin < 1:  # so is what is no number
        draft.problems.append(
            f"{entry.label}: write a difference of WER above 0 and below 1, such as margin = 0.01 for one point"
        )
        return
    draft.margin = margin


_SETTERS = {BASELINE: _set_baseline, GROUPS: _set_groups, MARGIN_KEY: _set_margin}
