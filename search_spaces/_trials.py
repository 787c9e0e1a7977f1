"""What every search space does with its cells: check the names in them, and say what runs them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from launcher.config import Configuration
from launcher.study import Study, make
from trainables import reductions, variants

_REDUCTION = "Model Configuration.reduction"


def study_of(configuration: Configuration, cells: Iterable[Configuration], *, name: str, question: str) -> Study:
    """Make a study of cells that `trainables` runs; each reduction is spelt in the one way that its trials are named by.

    Raises:
        DataError: a cell names a reduction or model that does not exist.
    """
    settled = []
    for cell in cells:
        variants.require("trainables.models", cell.model.model_type)
        spelling = _spelling(cell.model.reduction)
        # Setting a key checks the whole cell again: not for the thousands that are spelt so already.
        if spelling != cell.model.reduction or _REDUCTION in cell.axes:
            cell = cell.with_values({_REDUCTION: spelling})
        settled.append(cell)
    return make(
        configuration,
        settled,
        name=name,
        question=question,
        train_fn="trainables.wav2vec2_ctc:train_fn",
        prepare="trainables.preflight:ready",
        probe="trainables.probe",
        results_version=variants.RESULTS_VERSION,
    )


@cache
def _spelling(reduction: str) -> str:
    return str(reductions.parse(reduction))
