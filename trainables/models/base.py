"""Any pretrained `Wav2Vec2ForCTC`, by local path or hub name, with the vocabulary and feature extractor it came with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import DataError
from trainables.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC


def vocabulary(pretrained_model_name: str | None) -> Vocabulary:
    """Read the labels of the checkpoint."""
    return Vocabulary.from_file(_file(pretrained_model_name, "vocab.json"))


def convolutions(pretrained_model_name: str | None) -> tuple[tuple[int, int], ...]:
    """Return (kernel, stride) of each layer of the feature encoder."""
    config = json.loads(_file(pretrained_model_name, "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "wav2vec2":
        raise DataError(
            f"pretrained_model_name = {pretrained_model_name!r} is a {config.get('model_type')!r} model; "
            "model_type = base needs a wav2vec2 checkpoint"
        )
    kernels = config.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2))
    return tuple(zip(kernels, config.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))))


def features(pretrained_model_name: str | None) -> Wav2Vec2FeatureExtractor:
    """Load the feature extractor of the checkpoint: it says whether audio is normalised and masked."""
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Processor

    folder = _file(pretrained_model_name, "config.json").parent
    if (folder / "processor_config.json").is_file():
        return Wav2Vec2Processor.from_pretrained(folder).feature_extractor
    return Wav2Vec2FeatureExtractor.from_pretrained(_file(pretrained_model_name, "preprocessor_config.json").parent)


def build(
    vocabulary: Vocabulary, overrides: Mapping[str, Any], pretrained_model_name: str | None = None
) -> Wav2Vec2ForCTC:
    """Load the checkpoint.

    Args:
        vocabulary: its labels, as `vocabulary` gave them.
        overrides: fields of `Wav2Vec2Config` that win over those of the checkpoint (dropouts, SpecAugment).
        pretrained_model_name: local path or hub name.
    """
    from transformers import Wav2Vec2ForCTC

    folder = _file(pretrained_model_name, "config.json").parent
    _file(pretrained_model_name, "model.safetensors")
    return Wav2Vec2ForCTC.from_pretrained(
        folder, use_safetensors=True, vocab_size=len(vocabulary), pad_token_id=vocabulary.blank, **overrides
    )


def _file(name: str | None, file: str) -> Path:
    """Find one file of a checkpoint: in a local folder, or in the hub's cache or on the hub.

    Raises:
        DataError: no name, or no such file; the message says how to get it.
    """
    if name is None:
        raise DataError(
            "model_type = base needs pretrained_model_name in [Model Configuration]: the folder of a Wav2Vec2ForCTC "
            "checkpoint or a hub name such as facebook/wav2vec2-base-960h"
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / file).is_file():
            raise DataError(f"pretrained_model_name = {name!r} has no {file}; it has: {_listing(folder)}")
        return folder.resolve() / file
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(name, file)
    except OSError as error:
        raise DataError(
            f"pretrained_model_name = {name!r} is no local folder, and {file} cannot be had from the hub "
            f"({str(error).splitlines()[0]}). On a machine with network: huggingface-cli download {name} "
            "--local-dir FOLDER; copy FOLDER here and set pretrained_model_name = FOLDER"
        ) from error
    return Path(str(found))


def _listing(folder: Path) -> str:
    return ", ".join(sorted(entry.name for entry in folder.iterdir())[:12]) or "nothing"
