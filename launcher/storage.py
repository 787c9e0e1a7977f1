"""Which errors tell that a disk is full, read-only or gone: that concerns all trials, and is the fault of none.

`trainables.failures` tells so of what a trial meets while it trains; here is what is met around it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})
_NUMBER = re.compile(r"\[errno (\d+)\]", re.I)
# Ray passes errors of its workers on as text, and has a name of its own for a node whose disk is full.
_WORDS = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system|OutOfDiskError")


def concerns(error: BaseException | None) -> bool:
    """Tell whether an error, or what it was raised from, is one of storage; also where it came as text alone."""
    return any(_is_of_storage(cause) for cause in _causes(error))


def _is_of_storage(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in ERRORS:
        return True
    text = f"{type(error).__name__}: {error}"
    return _WORDS.search(text) is not None or any(int(number) in ERRORS for number in _NUMBER.findall(text))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, innermost last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
