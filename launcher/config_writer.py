"""A configuration as the text of an experiment file: the inverse of reading it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from launcher.config_keys import RENAMED_VALUES, is_true
from launcher.config_schema import SECTIONS, TRAINER, convert
from launcher.config_values import is_none, split_values, write_text

_HEADER = "# An experiment file of lossgrid. It gives the same trials as the configuration it was written from.\n"
# These start comments and interpolations, even inside the quotes of JSON, where the escapes mean the same.
_JSON_ESCAPES = str.maketrans({"#": "\\u0023", ";": "\\u003b", "$": "\\u0024"})


def conf_text(
    sections: Mapping[str, Mapping[str, Any]],
    axes: Mapping[str, tuple[Any, ...]],
    *,
    baseline: str | None,
    groups: tuple[str, ...],
    margin: float,
) -> str:
    """Write the sections, then [Study].

    Args:
        sections: the typed values of the three sections.
        axes: "Section.key" -> the typed values.
        baseline: the variant to compare with.
        groups: the columns to group by.
        margin: differences of WER within it count as none.
    """
    parts = [_HEADER]
    for section in SECTIONS:
        lines = [f"{key} = {_written(f'{section}.{key}', value)}" for key, value in sections[section].items()]
        parts.append("\n".join([f"[{section}]", *lines, ""]))
    study = [f"{target} = {', '.join(_item(target, value) for value in values)}" for target, values in axes.items()]
    if baseline is not None:
        study.append(f"baseline = {write_text(baseline)}")
    study.append(f"groups = {', '.join(_name(group) for group in groups)}")
    study.append(f"margin = {margin!r}")
    parts.append("\n".join(["[Study]", *study, ""]))
    return "\n".join(parts)


def _written(target: str, value: Any) -> str:
    """Write one value the plain way where that reads back to the same value, otherwise in quotes."""
    if isinstance(value, dict) or (isinstance(value, list) and target.startswith(TRAINER)):
        return _json(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_name(item) if isinstance(item, str) else repr(item) for item in value)}]"
    if not isinstance(value, str):
        return repr(value)
    if not _is_plain(value) or is_true(value) or (target, value) in RENAMED_VALUES:
        return write_text(value)
    try:
        return value if convert(target, value) == value else write_text(value)
    except ValueError:
        return write_text(value)


def _json(value: Any) -> str:
    r"""Write JSON without a character that means something in the file: a quote inside quotes is \u0022."""
    escaped = re.sub(r"\\(.)", lambda match: "\\u0022" if match[1] == '"' else match[0], json.dumps(value))
    return escaped.translate(_JSON_ESCAPES)


def _item(target: str, value: Any) -> str:
    """Write one value of an axis, in quotes also where its commas would make two of it."""
    text = _written(target, value)
    if not isinstance(value, str):
        return text
    try:
        return text if split_values(text) == [text] else write_text(value)
    except ValueError:
        return write_text(value)


def _name(name: str) -> str:
    return name if name.replace("_", "").isalnum() and not is_none(name) else write_text(name)


def _is_plain(words: str) -> bool:
    return words.isprintable() and words == words.strip() and not set(words) & set("\"'#;$\\") and words != ""
