"""Workers as processes of this machine that meet over gloo."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

from torch.multiprocessing import start_processes  # type: ignore[attr-defined]

# Loaded once, in the process that the workers are forks of: loading them is the dearest part of these tests.
LOADED = ["trainables.wav2vec2_ctc", "torch.distributed", "scipy.stats", "pytest", "hypothesis"]


def work_together(work: Callable[[int, str], None], folder: Path, workers: int) -> None:
    """Call `work(rank, folder)` in as many processes; an error in one is raised here."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    multiprocessing.set_forkserver_preload(LOADED)
    start_processes(work, args=(str(folder),), nprocs=workers, start_method="forkserver")
