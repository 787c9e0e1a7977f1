"""What an experiment file may say: its sections, the types of its keys, their limits and their defaults.

`[Trainer Arguments]` is whatever the installed transformers knows (launcher/training_arguments.py); the two
sections of lossgrid itself are the models below, and their descriptions are its documentation.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from launcher import training_arguments
from launcher.config_values import expand_path, is_none, read_text

TRAINER = "Trainer Arguments"
TRAINING = "Training Configuration"
MODEL = "Model Configuration"

PathText = Annotated[str, AfterValidator(expand_path)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class TrainingConfiguration(BaseModel):
    """`[Training Configuration]`: the data of a trial and what is kept of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset_path: PathText = Field(
        "sample",
        min_length=1,
        description="The corpus: a manifest (.csv, .tsv, .jsonl, .parquet), a prepared store, or `sample`, "
        "which ships with lossgrid. A relative path is taken from the current folder.",
    )
    test_set: Literal["validation", "test"] = Field(
        "validation", description="The split that is evaluated before and after training."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard event files beside the tables of each trial.")
    save_model: bool = Field(True, description="Keep the trained model of each trial (safetensors).")
    exact_length_evaluation: bool | None = Field(
        None,
        description="Score without padding and report how far padding would move the scores (padding_effect). "
        "Left out: for models that take no attention mask.",
    )
    micro_batch_seconds: float = Field(
        60.0,
        gt=0,
        description="Padded seconds of audio in one micro-batch. It decides memory and speed: the gradient "
        "of an update is the same for any value.",
    )


class ModelConfiguration(BaseModel):
    """`[Model Configuration]`: the model, its loss, and changes to the model's own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    model_type: str = Field("tiny", min_length=1, description="A file of trainables/models by name.")
    pretrained_model_name: PathText | None = Field(
        None,
        min_length=1,
        description="Weights to start from: a folder or a name on the hub; None starts at random.",
    )
    reduction: str = Field(
        "mean",
        min_length=1,
        description="How the losses of the utterances become the loss of an update, such as `mean`, `sum` or "
        "`power(alpha=0.25)`.",
    )
    ctc_zero_infinity: bool = Field(True, description="Make an infinite loss, and its gradient, zero.")
    reduction_group: str = Field(
        "group",
        min_length=1,
        description="Manifest column whose classes are weighed by the reductions that weigh groups.",
    )
    match_step: bool = Field(
        False,
        description="Rescale gradients so that their running norm is the same for every reduction: tests the "
        "weighting apart from the size of the step.",
    )
    freeze_feature_extractor: bool = Field(False, description="Do not train the convolutional feature encoder.")
    attention_dropout: Fraction | None = Field(None, description="Dropout of the attention weights.")
    hidden_dropout: Fraction | None = Field(None, description="Dropout of the encoder's fully connected layers.")
    activation_dropout: Fraction | None = Field(None, description="Dropout inside the feed-forward layers.")
    feat_proj_dropout: Fraction | None = Field(None, description="Dropout of the projected features.")
    final_dropout: Fraction | None = Field(None, description="Dropout before the output layer.")
    layerdrop: Fraction | None = Field(None, description="Probability that a layer is skipped in training.")
    mask_time_prob: Fraction | None = Field(None, description="SpecAugment: share of the frames that is masked.")
    mask_time_length: int | None = Field(None, ge=1, description="SpecAugment: frames in one mask (20 ms each).")
    mask_time_min_masks: int | None = Field(
        None,
        ge=0,
        description="SpecAugment: least masks per utterance. Above 0, short utterances are masked more.",
    )
    mask_feature_prob: Fraction | None = Field(None, description="SpecAugment: share of the features that is masked.")
    mask_feature_length: int | None = Field(None, ge=1, description="SpecAugment: features in one mask.")


MODELS: dict[str, type[BaseModel]] = {TRAINING: TrainingConfiguration, MODEL: ModelConfiguration}
SECTIONS = (TRAINER, TRAINING, MODEL)


def keys(section: str) -> Collection[str]:
    """Return the keys of a section of `SECTIONS`, in order."""
    return training_arguments.fields().keys() if section == TRAINER else MODELS[section].model_fields.keys()


def takes_list(target: str) -> bool:
    """Return whether the value of "Section.key" may be a list itself."""
    section, _, key = target.partition(".")
    return section == TRAINER and training_arguments.takes_list(key)


def convert(target: str, value: Any, *, literal: bool = False) -> Any:
    """Return a value in the type of "Section.key", checked.

    Args:
        target: section and key, both of which exist.
        value: text as written in a file, or a value that has its type already.
        literal: take a text as it is: no quotes to strip, no `~` to expand, "None" is a word.

    Raises:
        ValueError: the value does not fit; the message is half a sentence ("a number is needed").
    """
    section, _, key = target.partition(".")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if section == TRAINER:
        return training_arguments.convert(key, value, literal=literal)
    if isinstance(value, str):
        text = read_text(value, literal=literal)
        if not text.words:
            raise ValueError("a value is missing")
        value = None if is_none(text.words) and not text.quoted else text.words
    try:
        return getattr(MODELS[section](**{key: value}), key)
    except ValidationError as error:
        raise ValueError(_in_words(error)) from error


def _in_words(error: ValidationError) -> str:
    """Return the first finding of pydantic in the words of this program."""
    first = error.errors()[0]
    kind, context = str(first["type"]), first.get("ctx", {})
    if kind.startswith("bool"):
        return "True or False is needed"
    if kind.startswith("int"):
        return "a whole number is needed"
    if kind.startswith(("float", "finite")):
        return "a number is needed"
    if kind.startswith("string"):
        return "a text is needed"
    if kind == "literal_error":
        return f"{context['expected']} is needed"
    limits = {"greater_than": ("gt", "greater than"), "greater_than_equal": ("ge", "at least")}
    limits["less_than_equal"] = ("le", "at most")
    if kind in limits:
        name, words = limits[kind]
        return f"it must be {words} {context[name]}"
    return str(first["msg"])
