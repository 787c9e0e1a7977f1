"""A model that is measured and not changed: eval mode inside, the same weights and modes after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn


def digest(model: nn.Module) -> str:
    """Hash every weight and buffer with its name, shape and type; 64 hexadecimal digits."""
    total = hashlib.sha256()
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


@contextmanager
def frozen(model: nn.Module) -> Iterator[str]:
    """Put a model into eval mode, without dropout and SpecAugment, and give every part its mode back.

    Yields:
        the digest of its weights.

    Raises:
        RuntimeError: a weight or buffer is not what it was before.
    """
    modes = [(module, module.training) for module in model.modules()]
    before = digest(model)
    model.eval()
    try:
        yield before
    finally:
        for module, training in modes:
            module.training = training
    after = digest(model)
    if after != before:
        raise RuntimeError(
            f"the weights changed while the model was measured: {before[:12]} before, {after[:12]} after"
        )
