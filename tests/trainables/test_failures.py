"""Which class a failure has, by what was raised."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from launcher import storage
from trainables import failures
from trainables.corpora import writing
from trainables.errors import DataError
from trainables.failures import DIVERGED, ERROR, LOST, OUT_OF_MEMORY, STORAGE, WRONG_REQUEST, Diverged, classify


def caused_by(cause: BaseException) -> RuntimeError:
    try:
        raise RuntimeError("while training") from cause
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("no such column"), WRONG_REQUEST),
        (Diverged("diverged at update 3"), DIVERGED),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OUT_OF_MEMORY),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"), OUT_OF_MEMORY),
        (MemoryError(), OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), STORAGE),
        (OSError(errno.EROFS, "Read-only file system"), STORAGE),
        (RuntimeError("[enforce fail at inline_container.cc:659] . PytorchStreamWriter failed writing file data/3"), STORAGE),
        (RuntimeError("Error while serializing: I/O error: Stale file handle (os error 116)"), STORAGE),
        (RuntimeError("Error while serializing: I/O error: No such file or directory (os error 2)"), ERROR),
        (ConnectionResetError("peer"), LOST),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4712"), LOST),
        (ValueError("shapes differ"), ERROR),
        (FileNotFoundError(errno.ENOENT, "gone"), ERROR),
    ],
)  # fmt: skip
def test_the_class_of_a_failure(error: BaseException, kind: str) -> None:
    assert classify(error) == kind
    assert classify(caused_by(error)) == kind


def test_a_full_disk_is_one_whatever_request_error_says_what_to_do_about_it(tmp_path: Path) -> None:
    for number, kind in ((errno.ENOSPC, STORAGE), (errno.EDQUOT, STORAGE), (errno.EFBIG, WRONG_REQUEST)):
        with pytest.raises(DataError, match="free some") as caught, writing.space_needed(tmp_path):
            raise OSError(number, "while a checkpoint is copied into the cache of this node")
        assert classify(caught.value) == kind
        assert classify(caused_by(caught.value)) == kind


def test_a_request_error_that_is_told_while_a_full_disk_is_cleared_up_is_none_of_storage() -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError:
        assert classify(DataError("no such column")) == WRONG_REQUEST


def test_what_ray_raises_in_a_worker_is_not_the_fault_of_the_trial() -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    assert classify(exceptions.RayActorError()) == LOST


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
@pytest.mark.parametrize("numbers", [10, 1_000, 100_000, 10_000_000])
def test_a_full_disk_is_seen_whatever_torch_says_of_it(numbers: int) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.save({"optimizer": torch.zeros(numbers)}, "/dev/full")
    assert classify(caught.value) == STORAGE
    assert "No space left on device" in failures.told(caught.value)


def test_memory_that_ran_out_for_real_is_seen() -> None:
    with pytest.raises(RuntimeError, match="allocate") as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert failures.is_out_of_memory(caught.value)


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_what_is_met_around_a_trial_is_of_storage_just_where_it_would_be_within(number: int) -> None:
    """`launcher.storage` and `trainables.failures` may not import each other."""
    error = OSError(number, os.strerror(number))
    assert storage.concerns(error) == (classify(error) == STORAGE)
    as_text = RuntimeError(os.strerror(number))
    assert storage.concerns(as_text) == (classify(as_text) == STORAGE)
