"""What every search space does with its cells: check the names in them, and say what runs them."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.config import Configuration
from launcher.study import Study, make
from trainables import reductions, variants


def study_of(configuration: Configuration, cells: Iterable[Configuration], *, name: str, question: str) -> Study:
    """Make a study of cells that `trainables` runs; each reduction is spelt in the one way that its trials are named by.

    Raises:
        DataError: a cell names a reduction or model that does not exist.
    """
    settled = []
    for cell in cells:
        variants.require("trainables.models", cell.model.model_type)
        settled.append(cell.with_values({"Model Configuration.reduction": str(reductions.parse(cell.model.reduction))}))
    return make(
        configuration,
        settled,
        name=name,
        question=question,
        train_fn="trainables.wav2vec2_ctc:train_fn",
        prepare="trainables.preflight:ready",
        results_version=variants.RESULTS_VERSION,
    )
