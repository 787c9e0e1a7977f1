"""What a worker computes on: what the trial asked for, not what the machine has. Decided here and nowhere else."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any

import torch


def uses_gpu(arguments: Mapping[str, Any]) -> bool:
    """Return whether a trial computes on a GPU: there is one, and it was not told to leave it (`use_cpu`).

    Args:
        arguments: [Trainer Arguments].
    """
    return torch.cuda.is_available() and not arguments.get("use_cpu")


def name(arguments: Mapping[str, Any]) -> str:
    """Return the name of the device that a trial computes on."""
    return torch.cuda.get_device_name() if uses_gpu(arguments) else "cpu"


def peak_memory_bytes(arguments: Mapping[str, Any]) -> int:
    """Highest memory of this worker so far: of the GPU that the trial computes on, else of the process."""
    if uses_gpu(arguments):
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak_memory(arguments: Mapping[str, Any]) -> None:
    """Begin the peak of the GPU anew: a worker may run several trials. That of a process cannot be."""
    if uses_gpu(arguments):
        torch.cuda.reset_peak_memory_stats()
