"""Why an attempt at a trial ended, and which endings are worth another attempt."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

import torch

WRONG_REQUEST, OUT_OF_MEMORY, LOST, DIVERGED, STORAGE, ERROR, PREEMPTED = (
    "wrong request", "out of memory", "worker lost", "diverged", "storage", "error", "preempted",
)  # fmt: skip
RETRIES = {OUT_OF_MEMORY: 6, LOST: 3, ERROR: 1}
"""Further attempts of one launch by class. A wrong request and a trial that diverged would end alike again and get none;
storage concerns all trials, which stop until there is room. A node that is taken away says nothing about its trial, which
moves as often as that happens."""

_STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})
# torch and safetensors write files outside of Python: their errors carry no number. Of torch three are known, by the size
# of what did not fit; only its writer says "unexpected pos", as a file that is read has a size of its own.
_TORCH_WRITER_TEXT = (
    r"PytorchStreamWriter failed writing|inline_container\.cc:\d+\] \. unexpected pos|basic_ios::clear: iostream error"
)
_STORAGE_TEXT = re.compile(rf"No space left on device|Disk quota exceeded|Read-only file system|{_TORCH_WRITER_TEXT}")
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # as safetensors tells of them
_MEMORY_TEXT = re.compile(r"out of memory|can't allocate memory|not enough memory|CUBLAS_STATUS_ALLOC_FAILED", re.I)
_PEER_TEXT = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|Timed out waiting|NCCL|ProcessGroup|gloo/transport", re.I
)


class Diverged(FloatingPointError):
    """The gradient was not finite for several updates in a row."""


def classify(error: BaseException) -> str:
    """Tell the class of a failure from what was raised, or from what caused it."""
    for cause in _causes(error):
        if getattr(cause, "is_request_error", False):
            # That a disk is full is told by a request error too: "free some".
            return STORAGE if _was_storage(cause) else WRONG_REQUEST
        if isinstance(cause, Diverged):
            return DIVERGED
        if is_out_of_memory(cause):
            return OUT_OF_MEMORY
        if _concerns_storage(cause):
            return STORAGE
        if _comes_from_outside(cause):
            return LOST
    return ERROR


def told(error: BaseException) -> str:
    """Return the type and the text of an error; where torch could not write a file, also what its words mean."""
    text = f"{type(error).__name__}: {error}"
    if re.search(_TORCH_WRITER_TEXT, text):
        text += " (torch could not write a file: No space left on device, or a quota was reached)"
    return text


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, of the device or of the machine."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _MEMORY_TEXT.search(str(error)) is not None


def _concerns_storage(error: BaseException) -> bool:
    """The place of the study is full, read-only or gone, for every trial."""
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
        return True
    number = _RUST_ERROR.search(str(error))
    return _STORAGE_TEXT.search(str(error)) is not None or (number is not None and int(number[1]) in _STORAGE_ERRORS)


def _was_storage(error: BaseException) -> bool:
    """Whether an error was raised from one of storage that the system told of by its number."""
    while error.__cause__ is not None:
        error = error.__cause__
        if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
            return True
    return False


def _comes_from_outside(error: BaseException) -> bool:
    """Another worker, or a process of Ray that this one needs, is gone."""
    if type(error).__module__.partition(".")[0] == "ray" or isinstance(error, ConnectionError):
        return True
    return isinstance(error, RuntimeError) and _PEER_TEXT.search(str(error)) is not None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from, innermost last."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
