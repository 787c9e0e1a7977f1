"""A start from a checkpoint: which ones can be used, and what they bring along (labels, feature extractor, weights)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables import weights
from trainables.errors import DataError
from trainables.model_options import check_fields
from trainables.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import Wav2Vec2FeatureExtractor

WITHOUT_HEAD = ("Wav2Vec2Model", "Wav2Vec2ForPreTraining")
PLAIN = ("Wav2Vec2ForCTC", *WITHOUT_HEAD)
# Checkpoints that were saved without SpecAugment lack it, facebook/wav2vec2-base-960h among them.
_MASK_EMBEDDING = "wav2vec2.masked_spec_embed"
_HUB_HAS_NONE = "does not appear to have a file named"
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Checkpoint:
    """A wav2vec2 checkpoint, by local path or hub name.

    Attributes:
        name: path or hub name.
        model_type: the model that starts from it, for messages.
        own: the architecture that this model saves itself, accepted beside the plain ones.
    """

    name: str | None
    model_type: str
    own: str | None = None

    def saved(self) -> Mapping[str, Any]:
        """Read the checkpoint's `config.json`.

        Raises:
            DataError: it is not there, or it is of another kind of model.
        """
        config = json.loads(self._file("config.json").read_text(encoding="utf-8"))
        if config.get("model_type") != "wav2vec2":
            raise DataError(
                f"the checkpoint {self.name!r} is a {config.get('model_type')!r} model; "
                f"model_type = {self.model_type} needs a wav2vec2 checkpoint"
            )
        accepted = PLAIN if self.own is None else (*PLAIN, self.own)
        architectures = config.get("architectures") or ["Wav2Vec2ForCTC"]
        if not set(architectures) <= set(accepted):
            raise DataError(
                f"the checkpoint {self.name!r} holds a {', '.join(architectures)}; model_type = "
                f"{self.model_type} starts from one of: {', '.join(accepted)}"
            )
        return config

    @property
    def is_own(self) -> bool:
        """Whether this model saved the checkpoint itself."""
        return self.own is not None and self.own in (self.saved().get("architectures") or ())

    @property
    def has_head(self) -> bool:
        """Whether the checkpoint was trained to write text."""
        return not set(self.saved().get("architectures") or ()) & set(WITHOUT_HEAD)

    def vocabulary(self) -> Vocabulary | None:
        """Read the labels of the checkpoint; None for one that was never trained to write text and has none."""
        if not self.has_head and not self._has("vocab.json"):
            return None
        return Vocabulary.from_file(self._file("vocab.json"))

    def convolutions(self) -> tuple[tuple[int, int], ...]:
        """Return (kernel, stride) of each layer of the feature encoder."""
        config = self.saved()
        kernels = config.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2))
        return tuple(zip(kernels, config.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))))

    def layers(self, overrides: Mapping[str, Any]) -> int:
        """Count the transformer layers."""
        return int(overrides.get("num_hidden_layers") or self.saved().get("num_hidden_layers", 12))

    def features(self) -> Wav2Vec2FeatureExtractor:
        """Load the feature extractor of the checkpoint: it says whether audio is normalised and masked."""
        from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Processor

        folder = self._file("config.json").parent
        if (folder / "processor_config.json").is_file():
            return Wav2Vec2Processor.from_pretrained(folder).feature_extractor
        return Wav2Vec2FeatureExtractor.from_pretrained(self._file("preprocessor_config.json").parent)

    def load(
        self,
        architecture: Any,
        vocabulary: Vocabulary,
        overrides: Mapping[str, Any],
        own: Mapping[str, object] | None = None,
        fresh: tuple[str, ...] = (),
    ) -> Any:
        """Load the weights, in float32.

        Args:
            architecture: class of the model; it has a `Wav2Vec2Model` named `wav2vec2`.
            vocabulary: its labels, as `vocabulary` gave them; of the training transcripts where it gave none.
            overrides: fields of `Wav2Vec2Config` that win over those of the checkpoint (dropouts, SpecAugment).
            own: entries of the configuration that only this architecture knows.
            fresh: beginnings of the names of weights that a plain checkpoint does not have.

        Raises:
            DataError: an override that is none, or weights that are missing or of another shape.
        """
        import torch
        from transformers import Wav2Vec2Config

        check_fields(overrides, self.model_type)
        folder = self._file("config.json").parent
        self._file("model.safetensors")
        config = Wav2Vec2Config.from_pretrained(folder, **overrides)
        for name, value in {**(own or {}), "vocab_size": len(vocabulary), "pad_token_id": vocabulary.blank}.items():
            setattr(config, name, value)
        model, found = architecture.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        self._check(found, () if self.is_own else fresh)
        return model

    def _check(self, found: Mapping[str, Any], fresh: tuple[str, ...]) -> None:
        """Refuse a model that would start from random weights without saying so."""
        allowed = (_MASK_EMBEDDING, *fresh, *(() if self.has_head else ("lm_head.",)))
        missing = sorted(name for name in found["missing_keys"] if not name.startswith(allowed))
        if missing:
            raise DataError(
                f"the checkpoint {self.name!r} lacks {len(missing)} weights of a {self.model_type} model, such "
                f"as {', '.join(missing[:3])}; they would start at random. Use a whole checkpoint, and leave "
                "num_hidden_layers out"
            )
        if other := sorted(found["mismatched_keys"]):
            name, theirs, ours = other[0]
            raise DataError(
                f"the checkpoint {self.name!r}: {name} has the shape {list(theirs)}, and vocab.json and the "
                f"configuration ask for {list(ours)}; give the vocab.json that belongs to the weights, and change no size"
            )

    def _has(self, file: str) -> bool:
        """Tell whether a checkpoint has a file that it need not have."""
        assert self.name is not None
        if (folder := weights.folder_of(self.name)) is not None:
            return (folder / file).is_file()
        try:
            self._file(file)
        except DataError as error:
            if _HUB_HAS_NONE in str(error):
                return False
            raise  # nobody knows without network: the checkpoint may well have one
        return True

    def _file(self, file: str) -> Path:
        """Find one file of the checkpoint: in a local folder, or in the hub's cache or on the hub.

        Raises:
            DataError: no name, or no such file; the message says how to get it.
        """
        name = self.name
        if name is None:
            raise DataError(
                f"model_type = {self.model_type} needs pretrained_model_name in [Model Configuration]: the folder of a "
                "Wav2Vec2ForCTC checkpoint or a hub name such as facebook/wav2vec2-base-960h"
            )
        if (folder := weights.folder_of(name)) is not None:
            if not (folder / file).is_file():
                raise DataError(f"the checkpoint {name!r} has no {file}; it has: {_listing(folder)}")
            return folder.resolve() / file
        if Path(name).is_absolute() or name.startswith(("~", "./", "../")):
            raise DataError(
                f"pretrained_model_name = {name!r}: there is no such folder; give that of a Wav2Vec2ForCTC checkpoint (or its "
                "URI, as s3://bucket/folder), or a hub name such as facebook/wav2vec2-base-960h"
            )
        from transformers.utils.hub import cached_file

        _meet_hub(name, file)
        try:
            found = cached_file(name, file)
            if found is None:  # of a config.json that is not there transformers says nothing
                raise FileNotFoundError(f"{name} {_HUB_HAS_NONE} {file}")
        except OSError as error:
            raise DataError(
                f"pretrained_model_name = {name!r} is no local folder, and {file} cannot be had from the hub "
                f"({str(error).splitlines()[0]}). On a machine with network: hf download {name} "
                "--local-dir FOLDER; copy FOLDER here and set pretrained_model_name = FOLDER"
            ) from error
        return Path(str(found))


def _meet_hub(name: str, file: str) -> None:
    """Ask the hub once for a file of which there is no copy here: its client asks where nobody answers for 24 s and more.

    Raises:
        DataError: nobody answers.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        if constants.HF_HUB_OFFLINE or try_to_load_from_cache(name, file) is not None:
            return
        get_hf_file_metadata(hf_hub_url(name, file), timeout=_ANSWER_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return  # it answers, or has no such names: what is wrong is told when the file is fetched
    except Exception as error:  # of the client's network library, which has changed before
        raise DataError(
            f"pretrained_model_name = {name!r} is no local folder, {constants.HF_HUB_CACHE} has no copy of its {file}, and "
            f"{constants.ENDPOINT} does not answer ({type(error).__name__}: {error}). Where there is a network: hf download "
            f"{name} --local-dir FOLDER; copy FOLDER here and set pretrained_model_name = FOLDER (or copy its cache here, name "
            "it in HF_HOME and set HF_HUB_OFFLINE=1)"
        ) from error


def _listing(folder: Path) -> str:
    return ", ".join(sorted(entry.name for entry in folder.iterdir())[:12]) or "nothing"
