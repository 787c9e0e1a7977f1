"""What the workers of one trial say to each other; without a process group every function is the identity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


def world_size() -> int:
    """Count the workers of this trial."""
    return distributed.get_world_size() if _connected() else 1


def rank() -> int:
    """Return the number of this worker, from 0."""
    return distributed.get_rank() if _connected() else 0


def device() -> torch.device:
    """Return where tensors must lie that workers exchange: nccl knows the memory of GPUs only."""
    gpu = _connected() and distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")


def add_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradient of each parameter by its sum over all workers.

    A worker that had no share of the update takes part with zeros. One flat buffer, one reduction.
    """
    if world_size() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    # A weight that no worker used keeps no gradient at all, as with one worker: zeros would still feed Adam's momentum.
    device = trained[0].device
    used = add([float(parameter.grad is not None) for parameter in trained], device)
    trained = [parameter for parameter, count in zip(trained, used) if count]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    flat = _flatten_dense_tensors(gradients)
    distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, _unflatten_dense_tensors(flat, gradients)):
        gradient.copy_(summed)


def copy_from_first(tensors: Iterable[torch.Tensor]) -> None:
    """Give every worker the weights of the first, so that they start equal."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.data, src=0)


def add(values: Sequence[float], device: torch.device) -> list[float]:
    """Add numbers over all workers, in float64 where the device has it."""
    if world_size() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
    distributed.all_reduce(total)
    return total.tolist()


def add_in_place(tensor: torch.Tensor) -> None:
    """Replace a tensor by its sum over all workers."""
    if world_size() > 1:
        distributed.all_reduce(tensor)


def gather_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Collect the rows of all workers, on every worker."""
    if world_size() == 1:
        return rows
    shares: list[Any] = [None] * world_size()
    distributed.all_gather_object(shares, rows)
    return [row for share in shares for row in share]


def any_worker(flag: bool, device: torch.device) -> bool:
    """Tell whether the flag is set on at least one worker."""
    return add([float(flag)], device)[0] > 0


def wait_for_all() -> None:
    """Return when every worker has come here."""
    if world_size() > 1:
        distributed.barrier()


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()
