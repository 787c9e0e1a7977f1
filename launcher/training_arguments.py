"""The fields of the installed `transformers.TrainingArguments`, read from its source text.

Importing transformers (and torch behind it) takes seconds; parsing the one class takes about 0.1 s, so that
a configuration can be checked before anything heavy is loaded. The names, the types and
most of the allowed values are those of the version that is installed, not of a list kept here.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from launcher.config_values import Text, is_none, nearest, read_text, split_values

#: Default of a field whose default is computed when the class is made (for instance the optimizer).
COMPUTED = object()

# The choices of these two are an expression over transformers' logging module, so they cannot be read.
_LOG_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}

_POSITIVE = (lambda value: value > 0, "greater than 0")
_NOT_NEGATIVE = (lambda value: value >= 0, "0 or more")
_ONE_OR_MORE = (lambda value: value >= 1, "1 or more")
_SEED = (lambda value: 0 <= value < 2**32, "from 0 to 4294967295")
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "num_train_epochs": _NOT_NEGATIVE,
    "max_steps": (lambda value: value == -1 or value >= 1, "1 or more (or -1: the epochs decide)"),
    "learning_rate": _POSITIVE,
    "per_device_train_batch_size": _ONE_OR_MORE,
    "per_device_eval_batch_size": _ONE_OR_MORE,
    "gradient_accumulation_steps": _ONE_OR_MORE,
    "eval_accumulation_steps": _ONE_OR_MORE,
    "save_total_limit": _ONE_OR_MORE,
    "logging_steps": _POSITIVE,
    "eval_steps": _POSITIVE,
    "save_steps": _POSITIVE,
    "warmup_steps": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "adam_epsilon": _POSITIVE,
    "adam_beta1": (lambda value: 0 <= value < 1, "from 0 up to, but not, 1"),
    "adam_beta2": (lambda value: 0 <= value < 1, "from 0 up to, but not, 1"),
    "dataloader_num_workers": _NOT_NEGATIVE,
    "seed": _SEED,
    "data_seed": _SEED,
}


@dataclass(frozen=True)
class ArgumentField:
    """One field: its name, its type as Python text, the kinds in that type, its default, its choices."""

    name: str
    annotation: str
    kinds: frozenset[str]
    default: Any
    choices: tuple[str, ...]


@lru_cache(maxsize=1)
def fields() -> Mapping[str, ArgumentField]:
    """Return every field of `TrainingArguments` by name, in the order of the class.

    Raises:
        ModuleNotFoundError: transformers is not installed, or holds no such class.
    """
    folder = _transformers_folder()
    source = ast.parse((folder / "training_args.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in source.body if isinstance(node, ast.ClassDef)}
    if "TrainingArguments" not in classes:
        raise ModuleNotFoundError(f"no class TrainingArguments in {folder.name}.training_args; install transformers 5")
    enums = {**_enums(folder / "trainer_utils.py"), **_enum_values(classes)}
    found = {}
    for node in classes["TrainingArguments"].body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = _field(node.target.id, node, enums)
    return found


def takes_list(name: str) -> bool:
    """Return whether the field may hold a list, so that a comma in its value does not separate two values."""
    return bool(fields()[name].kinds & {"list", "dict"})


def convert(name: str, value: Any, *, literal: bool = False) -> Any:
    """Return the value of one field in its own type.

    Args:
        name: a name in `fields()`.
        value: text as written in a file, or a value that has its type already.
        literal: take a text as it is: no quotes to strip, no `~` to expand, "None" is a word.

    Raises:
        ValueError: the value does not fit; the message is half a sentence ("a number is needed").
    """
    argument = fields()[name]
    typed = _from_text(argument, read_text(value, literal=literal)) if isinstance(value, str) else value
    typed = _check_type(argument, typed)
    if argument.choices and isinstance(typed, str) and typed not in argument.choices:
        near = nearest(typed, argument.choices)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ValueError(f"one of {', '.join(argument.choices)} is needed{hint}")
    if name in _RANGES and typed is not None and not _RANGES[name][0](typed):
        raise ValueError(f"it must be {_RANGES[name][1]}")
    return typed


def _transformers_folder() -> Path:
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("transformers is not installed; run `pip install transformers`")
    return Path(next(iter(spec.submodule_search_locations)))


def _enums(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the members' values of the string enumerations of a module."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    return _enum_values({node.name: node for node in module.body if isinstance(node, ast.ClassDef)})


def _enum_values(classes: Mapping[str, ast.ClassDef]) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, node in classes.items():
        if any(isinstance(base, ast.Name) and base.id.endswith("Enum") for base in node.bases):
            values = [item.value for item in node.body if isinstance(item, ast.Assign)]
            found[name] = tuple(str(value.value) for value in values if isinstance(value, ast.Constant))
    return found


def _field(name: str, node: ast.AnnAssign, enums: Mapping[str, tuple[str, ...]]) -> ArgumentField:
    annotation = node.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    kinds = frozenset(_kinds(annotation))
    choices = next((enums[kind] for kind in sorted(kinds) if kind in enums), ())
    if not choices:
        choices = _LOG_LEVELS if name in ("log_level", "log_level_replica") else _choices(node.value)
    return ArgumentField(name, ast.unparse(annotation), kinds, _default(node.value), choices)


def _kinds(annotation: ast.expr) -> Iterator[str]:
    """Yield the members of a union by name: bool, int, float, str, list, dict, None, or an enumeration."""
    if isinstance(annotation, ast.BinOp):
        yield from _kinds(annotation.left)
        yield from _kinds(annotation.right)
    elif isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        outer = annotation.value.id
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if outer == "Optional":
            yield "None"
        if outer in ("Optional", "Union", "Literal"):
            for member in inner:
                yield from _kinds(member)
        else:
            yield outer.lower()
    elif isinstance(annotation, ast.Name):
        yield annotation.id
    elif isinstance(annotation, ast.Constant):
        yield repr(annotation.value)


def _keyword(node: ast.expr | None, name: str) -> ast.expr | None:
    if not isinstance(node, ast.Call):
        return None
    return next((keyword.value for keyword in node.keywords if keyword.arg == name), None)


def _default(node: ast.expr | None) -> Any:
    value = _keyword(node, "default") if isinstance(node, ast.Call) else node
    try:
        return COMPUTED if value is None else ast.literal_eval(value)
    except ValueError:
        return COMPUTED


def _choices(node: ast.expr | None) -> tuple[str, ...]:
    metadata = _keyword(node, "metadata")
    if not isinstance(metadata, ast.Dict):
        return ()
    for key, value in zip(metadata.keys, metadata.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "choices" and isinstance(value, ast.List):
            return tuple(str(item.value) for item in value.elts if isinstance(item, ast.Constant))
    return ()


def _from_text(argument: ArgumentField, text: Text) -> Any:
    """Read a text by the kinds of its field; what none can read stays text, for `_check_type` to refuse."""
    kinds, words = argument.kinds, text.words
    if (text.quoted and "str" in kinds) or words == argument.default:
        return words
    if not words:
        raise ValueError("a value is missing")
    if is_none(words) and "None" in kinds:
        return None
    if "dict" in kinds and words.startswith("{"):
        return _from_json(words)
    if "list" in kinds and (words.startswith("[") or "," in words or "str" not in kinds):
        return _from_json(words) if words.startswith("[") else split_values(words)
    lowered = words.lower()
    if "bool" in kinds and lowered in _BOOLEANS and ("str" not in kinds or not lowered.isdigit()):
        return _BOOLEANS[lowered]
    if "False" in kinds and lowered == "false":
        return False
    return words if "str" in kinds else _from_digits(kinds, words)


def _from_digits(kinds: frozenset[str], words: str) -> Any:
    # int() of thousands of digits is an error in Python; 20 digits are more than any field can use.
    if "int" in kinds and re.fullmatch(r"[+-]?[0-9]{1,20}", words):
        return int(words)
    if "float" in kinds and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", words):
        return float(words)
    return words


def _from_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError('it must be JSON, such as ["a", "b"] or {"key": 1}') from error


def _check_type(argument: ArgumentField, value: Any) -> Any:
    """Return the value if its field allows its type; a float field makes a float of a whole number."""
    kinds = argument.kinds
    if isinstance(value, bool):
        fits = "bool" in kinds or repr(value) in kinds
    elif isinstance(value, int):
        # Beyond a 64-bit integer no field has a meaning, and float() itself may fail.
        fits = bool(kinds & {"int", "float"}) and abs(value) < 2**63
        value = float(value) if fits and "int" not in kinds else value
    elif isinstance(value, float):
        fits = "float" in kinds and math.isfinite(value)
    elif isinstance(value, (list, tuple)):
        fits, value = "list" in kinds and all(isinstance(item, str) for item in value), list(value)
    elif isinstance(value, dict):
        fits = "dict" in kinds
    else:
        fits = "None" in kinds if value is None else isinstance(value, str) and "str" in kinds
    if not fits:
        raise ValueError(_need(kinds))
    return value


def _need(kinds: frozenset[str]) -> str:
    """Return what a field needs, in words, from the kinds of its type."""
    names = (
        ("float", "a number"),
        ("int", "a whole number"),
        ("bool", "True or False"),
        ("str", "a text"),
        ("list", "a list of texts"),
        ("dict", "a JSON object"),
        ("None", "None"),
    )
    return f"{' or '.join(words for kind, words in names if kind in kinds)} is needed"
