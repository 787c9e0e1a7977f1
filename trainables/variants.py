"""Find variants (models, corpora ...) by the name of their module, so that adding one is adding a file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType, ModuleType

from trainables.errors import DataError

RESULTS_VERSION = 1
"""Part of every trial's id. Raise it when the same configuration and data would now give other numbers."""


# A plan of ten thousand trials asks for each of them, and the files do not change while it is made.
@cache
def names(package: str) -> tuple[str, ...]:
    """List the variants of a package, for example `names("trainables.models")`, in alphabetical order."""
    path = importlib.import_module(package).__path__
    return tuple(sorted(module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_")))


def require(package: str, name: str) -> None:
    """Check that a variant exists, without importing it.

    Raises:
        DataError: there is no such module; the message lists those there are.
    """
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2].removesuffix("s")
        raise DataError(f"unknown {kind} {name!r}; choose one of: {', '.join(known)}")


def load(package: str, name: str) -> ModuleType:
    """Import one variant.

    Raises:
        DataError: there is no such module.
    """
    require(package, name)
    return importlib.import_module(f"{package}.{name}")


@cache
def model_keys() -> Mapping[str, tuple[str, ...]]:
    """List the keys of [Model Configuration] that only some models act on, each with the models that do."""
    found: dict[str, list[str]] = {}
    for name in names("trainables.models"):
        for key in sorted(load("trainables.models", name).KEYS):
            found.setdefault(key, []).append(name)
    return MappingProxyType({key: tuple(types) for key, types in found.items()})
