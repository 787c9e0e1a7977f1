"""`MultitaskForCTC`: a shared encoder, and for each task a branch of transformer layers with an output layer.

The branches take the place of the last layers of the encoder, and start as copies of them. They are what those layers
were: same layer norm order, LayerDrop and attention mask, and no positional convolution of their own.

Dimension key: B utterances, T frames, H hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Model, Wav2Vec2PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import CausalLMOutput

from trainables.errors import DataError


def reinitialize(model: Wav2Vec2PreTrainedModel, layers: nn.ModuleList, count: int) -> None:
    """Give the last transformer layers fresh weights, drawn from torch's current random state as wav2vec2 does.

    Args:
        model: knows the configuration and how its weights are drawn.
        layers: of an encoder or a branch, changed in place.
        count: how many.
    """
    for layer in layers[len(layers) - count :]:
        # Loaded weights are marked as such and transformers does not draw marked ones again: they are drawn elsewhere.
        fresh = type(layer)(model.config)
        fresh.apply(model._init_weights)
        layer.load_state_dict(fresh.state_dict())


class Branch(nn.Module):
    """The end of an encoder: its last layers and, where it has one there, its last layer norm.

    Args:
        layers: transformer layers.
        layer_norm: of an encoder that normalises at the end (`do_stable_layer_norm`); else None.
        layerdrop: probability of leaving a layer out in training.
    """

    def __init__(self, layers: nn.ModuleList, layer_norm: nn.Module | None, layerdrop: float) -> None:
        super().__init__()
        self.layers, self.layer_norm, self.layerdrop = layers, layer_norm, layerdrop

    def forward(self, hidden_BTH: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Go through the layers as the encoder does.

        Args:
            hidden_BTH: output of the shared layers.
            attention_mask: as `create_bidirectional_mask` made it for these utterances.
        """
        for layer in self.layers:
            if self.training and self.layerdrop > 0 and float(torch.rand([])) < self.layerdrop:
                continue
            output = layer(hidden_BTH, attention_mask=attention_mask)
            hidden_BTH = output[0] if isinstance(output, tuple) else output
        return hidden_BTH if self.layer_norm is None else self.layer_norm(hidden_BTH)


class MultitaskForCTC(Wav2Vec2PreTrainedModel):
    """A wav2vec2 with branches and output layers by task; call it without labels: the loss is computed elsewhere.

    Its `config` names the tasks (`lossgrid_tasks`, in the order of their numbers) and the layers of a branch
    (`lossgrid_branch_layers`; 0: the tasks have nothing but their output layers).
    """

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        own: Any = config
        tasks = range(len(own.lossgrid_tasks))
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout = nn.Dropout(config.final_dropout)
        end = _split_off(self.wav2vec2, config)
        self.branches = nn.ModuleList([copy.deepcopy(end) for _ in tasks] if end is not None else [])
        self.lm_heads = nn.ModuleList(nn.Linear(config.hidden_size, own.vocab_size) for _ in tasks)
        self.post_init()

    @classmethod
    def from_ctc(
        cls, source: Wav2Vec2ForCTC, tasks: tuple[str, ...], branch_layers: int, fresh: int
    ) -> MultitaskForCTC:
        """Give every task a copy of the last layers and of the output layer of a CTC model.

        Args:
            source: taken apart; not to be used any more.
            tasks: their names.
            branch_layers: layers of each branch.
            fresh: how many of them, from the end, are drawn anew.

        Raises:
            DataError: the model has fewer layers, or an adapter behind its encoder.
        """
        config: Any = source.config
        if config.add_adapter:
            raise DataError(
                "model_type = multitask cannot branch a checkpoint with an adapter behind its encoder (add_adapter); use "
                "model_type = base, or a checkpoint without"
            )
        config.lossgrid_tasks, config.lossgrid_branch_layers = list(tasks), branch_layers
        with torch.device("meta"):  # every part is replaced: nothing needs to be drawn
            model = cls(config)
        end = _split_off(source.wav2vec2, config)
        model.wav2vec2, model.dropout = source.wav2vec2, source.dropout
        model.branches = nn.ModuleList([copy.deepcopy(end) for _ in tasks] if end is not None else [])
        model.lm_heads = nn.ModuleList(copy.deepcopy(source.lm_head) for _ in tasks)
        model.reinitialize(fresh)
        return model.train(source.training)

    def reinitialize(self, count: int) -> None:
        """Draw the last layers of every branch anew."""
        for branch in self.branches:
            reinitialize(self, branch.layers, count)  # type: ignore[arg-type]

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask_time_indices: torch.Tensor | None = None,
        task: torch.Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Route each utterance through the branch of its task.

        Args:
            input_values: waveform_BS.
            attention_mask: 1 for samples, 0 for padding; for models that were trained with one.
            mask_time_indices: masked_BT of SpecAugment.
            task: task_B, int64, numbers of tasks.

        Returns:
            logits_BTV in the order of the utterances.

        Raises:
            ValueError: an utterance without a task.
        """
        if task is None or not bool(((task >= 0) & (task < len(self.lm_heads))).all()):
            names = self.config.lossgrid_tasks
            raise ValueError(f"task = {task!r}: give each utterance a number from 0 to {len(names) - 1}, of {names}")
        hidden_BTH = self.wav2vec2(
            input_values, attention_mask=attention_mask, mask_time_indices=mask_time_indices
        ).last_hidden_state
        frame_mask: Any = None
        if attention_mask is not None:
            frame_mask = self.wav2vec2._get_feature_vector_attention_mask(hidden_BTH.shape[1], attention_mask)  # type: ignore[arg-type]
        logits, row_of = [], []
        for number, head in enumerate(self.lm_heads):
            rows = (task == number).nonzero().flatten()
            if len(rows):
                own_BTH = self._branch(number, hidden_BTH[rows], None if frame_mask is None else frame_mask[rows])
                logits.append(head(self.dropout(own_BTH)))
                row_of.append(rows)
        return CausalLMOutput(logits=torch.cat(logits)[torch.argsort(torch.cat(row_of))])  # type: ignore[arg-type]

    def _branch(self, number: int, hidden_BTH: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        if not self.branches:
            return hidden_BTH
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden_BTH, attention_mask=frame_mask)
        return self.branches[number](hidden_BTH, mask)


def _split_off(wav2vec2: Wav2Vec2Model, config: Any) -> Branch | None:
    """Take the last layers from an encoder, with its last layer norm where the norm comes at the end.

    Returns:
        None where no layer is to be taken: the encoder stays whole.

    Raises:
        DataError: it has fewer layers.
    """
    encoder: Any = wav2vec2.encoder
    count, layers = config.lossgrid_branch_layers, len(encoder.layers)
    if not 0 <= count <= layers:
        raise DataError(
            f"branches of {count} layers were asked for, and the model has {layers} transformer layers; give a number "
            f"from 0 to {layers}"
        )
    if count == 0:
        return None
    layer_norm = encoder.layer_norm if config.do_stable_layer_norm else None
    end = Branch(encoder.layers[layers - count :], layer_norm, config.layerdrop)
    encoder.layers = encoder.layers[: layers - count]
    if layer_norm is not None:
        encoder.layer_norm = nn.Identity()
    return end
