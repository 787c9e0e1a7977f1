"""The keys of lossgrid's own two sections, with their types, limits and defaults; the descriptions are their documentation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from launcher.config_types import (
    Count,
    FolderOrOff,
    Fraction,
    Layer,
    NameOrOff,
    PathText,
    ShareOrOff,
    WeightPair,
    Weights,
    Words,
)


class TrainingConfiguration(BaseModel):
    """`[Training Configuration]`: the data of a trial, what is measured and what is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset_path: PathText = Field(
        "sample",
        min_length=1,
        description="The corpus: a manifest (.csv, .tsv, .jsonl, .parquet), a prepared store (by path or URI), several "
        "of these with commas, or `sample`, which ships with lossgrid. A relative path is taken from the current folder.",
    )
    split: str | None = Field(
        None,
        min_length=1,
        description="Named split in place of the data's own, such as `independent` or `loso(speaker=UA-F02)`; None keeps it.",
    )
    debug_dataset: ShareOrOff = Field(
        None,
        description="Share of each split that is kept, above 0 and at most 1, to try things out: that share of the "
        "utterances of each speaker, and at least one; None keeps all.",
    )
    filter_controls: bool = Field(False, description="Leave out the control speakers.")
    filter_datasets: Words = Field(
        (),
        description="Corpora to leave out, by the column corpus: whole names, in which case, hyphens, underscores and "
        "spaces do not count.",
    )
    l2_speakers: Words = Field((), description="Second-language speakers to keep; empty keeps all.")
    test_set: Literal["validation", "test", "both"] = Field(
        "validation",
        description="The split that is evaluated before and after training. `both` is for do_train = False alone.",
    )
    load_model: FolderOrOff = Field(
        None,
        min_length=1,
        description="Folder of a trained model, or its URI (s3://, gs:// ...), to start from or, with do_train = False, to score.",
    )
    save_results: FolderOrOff = Field(
        None, min_length=1, description="Folder of the study where --out is not given; None: results/GRID."
    )
    save_model: bool = Field(True, description="Keep the trained model of each trial (safetensors).")
    tensorboard: bool = Field(True, description="Write TensorBoard event files beside the tables of each trial.")
    early_stopping: Count = Field(
        0,
        description="Evaluations without a better score before training stops; 0 never stops early. The best model "
        "is kept.",
    )
    exact_length_evaluation: bool | None = Field(
        None,
        description="Score without padding and report how far padding would move the scores (padding_effect). "
        "None: for models that take no attention mask.",
    )
    micro_batch_seconds: float = Field(
        60.0,
        gt=0,
        description="Padded seconds of audio in one micro-batch. It decides memory and speed: the gradient "
        "of an update is the same for any value with models that take an attention mask, nearly so with others.",
    )
    audit: bool = Field(
        True, description="Measure which utterances each reduction listens to, before and after training."
    )
    audit_split: Literal["train", "validation", "test"] = Field("train", description="The split that is audited.")
    audit_utterances: int = Field(
        2000, ge=1, description="Most utterances measured; a sample stratified by group where there are more."
    )
    audit_exact: Count = Field(
        0,
        description="Utterances whose gradient at all weights is measured too: slow, one backward pass each or, for large models, more.",
    )


class ModelConfiguration(BaseModel):
    """`[Model Configuration]`: the model, its loss, and changes to the model's own settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    model_type: str = Field("tiny", min_length=1, description="A file of trainables/models by name.")
    pretrained_model_name: PathText | None = Field(
        None,
        min_length=1,
        description="Weights to start from: a folder, its URI, or a name on the hub; None starts at random.",
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
    dataset_loss_weighting: Weights = Field(
        None,
        description="Weight of each class of utterances in the loss, each above 0, in the order dysarthric, l2, "
        "control, others by name. It needs reduction = mean; None weighs all alike.",
    )
    match_step: bool = Field(
        False,
        description="Rescale gradients so that their running norm is the same for every reduction: tests the "
        "weighting apart from the size of the step.",
    )
    freeze_feature_extractor: bool = Field(False, description="Do not train the convolutional feature encoder.")
    freeze_encoder: bool = Field(
        False, description="Train the output layers, the branches and the classifier alone, not the encoder."
    )
    reinitialize_last_n_layers: Count = Field(
        0, description="Transformer layers, counted from the last, that start at random instead of pretrained."
    )
    no_control_layer: bool = Field(False, description="Treat control speakers as the class dysarthric.")
    task_group: NameOrOff = Field(
        None, min_length=1, description="`multitask`: manifest column whose classes get branches; None: group."
    )
    branch_layers: int | None = Field(
        None,
        ge=0,
        description="`multitask`: layers of each class's branch, copies of the last ones of the checkpoint; "
        "None: as many as reinitialize_last_n_layers.",
    )
    classes: NameOrOff = Field(
        None, min_length=1, description="`multitask_aux`: manifest column that the classifier tells; None: group."
    )
    domaincls_loc: Layer = Field(
        None,
        description="`multitask_aux`: where the classifier listens: `extractor`, `encoder`, `final`, or the number "
        "of a transformer layer from 1 on; None: final.",
    )
    task_weight: WeightPair = Field(
        None,
        description="`multitask_aux`: weights of the CTC loss and of the classifier; one number w means [w, 1 - w]; "
        "None: [0.5, 0.5].",
    )
    training_type: Literal["supervised", "unsupervised"] = Field(
        "supervised",
        description="`multitask_aux`: `unsupervised` trains without the transcripts of the first class.",
    )
    gradient_reversal: bool = Field(
        False, description="`multitask_aux`: reverse the classifier's gradient before it reaches the encoder (DANN)."
    )
    gradient_reversal_lambda: float | None = Field(None, ge=0, description="Factor of the reversed gradient; None: 1.")
    gradient_reversal_schedule: Literal["constant", "dann"] | None = Field(
        None,
        description="`constant`, or `dann`: the factor grows from 0 as training goes on; None: constant.",
    )
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
