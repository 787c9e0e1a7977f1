"""The Trainer whose loss is normalised over the whole update.

The data loader yields whole updates, the Trainer runs with accumulation 1, and `training_step` cuts each update into
micro-batches: Z is known before the first backward, gradients stay local until the last one, and nothing depends on
the Trainer's own scaling. (Stock Trainer 5.x skips the division by the accumulation steps for every model whose forward
takes `**kwargs`, and `Wav2Vec2ForCTC` then ignores `num_items_in_batch`: its `mean` grows with the accumulation.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

from trainables import checkpoints, ctc, distributed
from trainables.class_loss import ClassLoss
from trainables.dataset import Share, UpdateLoader
from trainables.errors import DataError
from trainables.evaluation import Evaluator
from trainables.failures import Diverged
from trainables.gradients import GroupGradients, StepMatcher, copy_weights, relative_change
from trainables.metrics import summarise
from trainables.reductions import Observed, Reduction, State
from trainables.room import Room
from trainables.totals import Step, Totals

MAX_NON_FINITE_UPDATES = 3
_MAX_FP16_SCALE_SEARCH = 20


class UpdateTrainer(Trainer):
    """A `transformers.Trainer` that minimises L = (1/Z) sum_i w_i l_i over whole updates."""

    def __init__(
        self,
        model: torch.nn.Module,
        args: TrainingArguments,
        *,
        loader: UpdateLoader,
        reduction: Reduction,
        evaluator: Evaluator,
        blank: int,
        zero_infinity: bool = True,
        keep_checkpoints: int = 1,
        match_step: bool = False,
        class_loss: ClassLoss | None = None,
    ) -> None:
        if match_step and args.fp16:
            raise DataError("match_step = true cannot be told from fp16's loss scaling; use bf16 = true, or neither")
        super().__init__(model=model, args=args, eval_dataset=evaluator.split)  # type: ignore[arg-type]
        self.remove_callback(PrinterCallback)
        self.network, self.checkpoints = model, Path(str(args.output_dir))
        self.updates, self.reduction, self.evaluator = loader, reduction, evaluator
        self.blank, self.zero_infinity, self.keep_checkpoints = blank, zero_infinity, keep_checkpoints
        self.totals, self.class_loss = Totals(), class_loss
        self.room, training = Room(self.totals), loader.loader.weighed
        self.reduction_state = reduction.initial_state(training.groups, training.group_counts)
        self.matcher = StepMatcher(target=args.max_grad_norm / 2 or 1.0) if match_step else None
        self._group_gradients = GroupGradients(model, training.groups) if reduction.needs_gradient_norms else None
        self._step = Step()

    # The seams of `transformers.Trainer`, in the order in which a run meets them.

    def create_accelerator_and_postprocess(self) -> None:
        """Keep DistributedDataParallel away: `distributed.add_gradients` adds what the workers have, once per update.

        It would average where a sum is needed, want a backward from workers without a share, and stumble over weights
        that an update does not use (LayerDrop, branches of groups that are absent).
        """
        super().create_accelerator_and_postprocess()
        prepare = self.accelerator.prepare_model
        self.accelerator.prepare_model = lambda model, device_placement=None, evaluation_mode=False: prepare(
            model, device_placement=device_placement, evaluation_mode=True
        )

    def get_train_dataloader(self) -> UpdateLoader:  # type: ignore[override]
        """Return the loader of whole updates."""
        return self.updates

    def num_examples(self, dataloader: Any) -> int:
        """Count the training utterances."""
        return len(dataloader.dataset)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, None]:
        """Take the next update; Z comes from the reduction, not from a count of labels."""
        return [next(epoch_iterator)], None

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: an update has no single input tensor."""
        return 0

    def training_step(self, model: torch.nn.Module, inputs: Share, num_items_in_batch: Any = None) -> torch.Tensor:  # type: ignore[override]
        """Add up the gradient of one update from its micro-batches, over all workers.

        Returns:
            the loss of the update, a scalar, the same on every worker.
        """
        self._step = Step(started=time.perf_counter())
        model.train()
        if self.class_loss is not None:
            self.network.reversal = self.class_loss.reversal(self._progress())  # type: ignore[assignment]
        weight_N, normaliser = self._weigh(inputs)
        loss_N, objective = self.room.run(
            inputs.micro_batches,
            lambda batches: self._backward(model, inputs, batches, weight_N, normaliser),
            self._forget_update,
        )
        distributed.add_gradients(model.parameters())
        raw_norm = self.matcher.rescale(model.parameters()) if self.matcher is not None else None
        self._observe(inputs, weight_N, *self._collect(objective, loss_N))
        if raw_norm is not None:
            self._step.values["grad_norm"] = raw_norm
        return torch.tensor(self._step.values["loss"], device=self.args.device)

    def _forget_update(self) -> None:
        """Undo what a broken backward left."""
        self.network.zero_grad()
        self._step = Step(started=self._step.started)
        if self._group_gradients is not None:
            self._group_gradients.begin()

    def _backward(
        self, model: torch.nn.Module, inputs: Share, batches: Sequence[ctc.MicroBatch], weight_N: np.ndarray, normaliser: float
    ) -> tuple[np.ndarray, float]:  # fmt: skip
        """Return the losses and the objective of this worker's part, with its gradient in the parameters."""
        loss_N, objective = np.zeros(len(inputs)), 0.0
        for batch in batches:
            with self.compute_loss_context_manager():
                output = model(**self._prepare_inputs(batch.inputs))
            loss_B, hits = ctc.finite_losses(output.logits, batch, self.blank, zero_infinity=self.zero_infinity)
            self._step.zero_infinity_hits += hits
            loss_N[batch.position_B] = loss_B.detach().double().cpu().numpy()
            if self._group_gradients is not None:
                group_N = inputs.spread(inputs.update.require_groups()[0], fill=-1)
                self._group_gradients.add(loss_B, output.logits, group_N[batch.position_B], batch.inputs.get("task"))
            factor_B = self.reduction.rescale(loss_N[batch.position_B], batch.label_count_B.numpy())
            weight_B = torch.as_tensor(factor_B * weight_N[batch.position_B] / normaliser).to(loss_B)
            weighted = self._with_classes((weight_B * loss_B).sum(), output, inputs, batch)
            self.accelerator.backward(weighted)
            objective += float(weighted.detach())
        return loss_N, objective

    def _progress(self) -> float:
        return self.state.global_step / max(1, self.state.max_steps)

    def _weigh(self, inputs: Share) -> tuple[np.ndarray, float]:
        """Return the weight of each utterance dealt, and Z."""
        if not len(inputs.update):
            return np.zeros(len(inputs)), 1.0
        weight_N, normaliser = self.reduction(inputs.update, self.reduction_state)
        return inputs.spread(weight_N), normaliser

    def _with_classes(self, weighted: torch.Tensor, output: Any, inputs: Share, batch: ctc.MicroBatch) -> torch.Tensor:
        """Add the loss of the classifier to that of the labels, where the model has one."""
        if self.class_loss is None or inputs.class_N is None:
            return weighted
        class_B, with_class = inputs.class_N[batch.position_B], int((inputs.class_N >= 0).sum())
        loss, right = self.class_loss.share(output.class_logits, class_B, with_class)
        self._step.class_loss += float(loss.detach())
        self._step.classes_right += right
        return self.class_loss.ctc_weight * weighted + self.class_loss.class_weight * loss

    def _collect(self, objective: float, loss_N: np.ndarray) -> tuple[np.ndarray, float]:
        """Add up what the workers saw: an utterance is one worker's share, zero elsewhere, so all get all losses."""
        step = self._step
        own = [objective, float(step.zero_infinity_hits), step.class_loss, float(step.classes_right), *loss_N.tolist()]
        objective, hits, step.class_loss, right, *losses = distributed.add(own, self.args.device)
        step.zero_infinity_hits, step.classes_right = int(hits), int(right)
        return np.array(losses), objective

    def _observe(self, inputs: Share, weight_N: np.ndarray, loss_N: np.ndarray, objective: float) -> None:
        """Let the reduction remember what the update showed, and note the update for the history."""
        update, step = inputs.update, self._step
        loss_M = inputs.weighed(loss_N)
        utterances_G, norm_G = update.group_sum(np.ones(len(update))), None
        if self._group_gradients is not None:
            norm_G = self._group_gradients.norms(utterances_G)
        if len(update):
            observed = Observed.of(update, update.group_sum(loss_M), norm_G)
            self.reduction_state = self.reduction.next_state(self.reduction_state, observed)
        step.audio_seconds = inputs.audio_seconds
        step.padded_seconds = inputs.audio_seconds / (1 - inputs.padding_fraction)
        step.values = {
            "loss": objective,
            "padding_fraction": inputs.padding_fraction,
            "utterances": len(inputs),
            "zero_infinity_hits": step.zero_infinity_hits,
        }
        self.totals.zero_infinity_hits += step.zero_infinity_hits
        if len(update):
            step.values["nll_per_label"] = float(loss_M.sum()) / max(1, int(update.label_count_N.sum()))
        if self.reduction.is_stateful:
            weight_G = update.group_sum(inputs.weighed(weight_N)) / np.maximum(utterances_G, 1)
            step.values |= {f"group_weight/{name}": float(weight) for name, weight in zip(update.groups, weight_G)}
        with_class = 0 if inputs.class_N is None else int((inputs.class_N >= 0).sum())
        if self.class_loss is not None and with_class:
            step.values |= {"class_loss": step.class_loss, "class_accuracy": step.classes_right / with_class}
        if self.class_loss is not None and (strength := self.class_loss.reversal(self._progress())) is not None:
            step.values["reversal_lambda"] = strength

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        return self._measure(model, super()._clip_grad_norm(model), self.args.max_grad_norm)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        if grad_norm is None:
            grad_norm = self._measure(model, super()._get_grad_norm(model), math.inf)
        return grad_norm

    def _measure(self, model: torch.nn.Module, grad_norm: Any, limit: float) -> Any:
        """Book the update; one whose gradient is not finite changes no weight.

        Raises:
            Diverged: it happened several times in a row.
        """
        norm, totals, step = float(grad_norm), self.totals, self._step
        clipped = norm > limit
        if self.matcher is not None:
            norm = step.values["grad_norm"]
        totals.updates += 1
        totals.audio_seconds += step.audio_seconds
        totals.padded_seconds += step.padded_seconds
        if math.isfinite(norm):
            totals.recent_non_finite = 0
            totals.grad_norm += norm
            totals.clipped += clipped
            if (self.state.global_step + 1) % max(1, int(self.args.logging_steps)) == 0:
                step.weights_before = copy_weights(model)
        else:
            totals.non_finite += 1
            totals.recent_non_finite += 1
            if not self.args.fp16:  # the gradient scaler of fp16 skips such an update by itself and lowers its scale
                for parameter in model.parameters():
                    parameter.grad = None
            if totals.recent_non_finite >= (_MAX_FP16_SCALE_SEARCH if self.args.fp16 else MAX_NON_FINITE_UPDATES):
                raise Diverged(
                    f"diverged at update {totals.updates}: gradient not finite for {totals.recent_non_finite} updates "
                    "in a row; try a lower learning_rate, more warmup_steps or a smaller max_grad_norm"
                )
        step.values |= {"grad_norm": norm, "clip_fraction": totals.clipped / totals.updates}
        totals.training_seconds += time.perf_counter() - step.started
        return grad_norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the update as it was, not an average since the last line, so that a resumed history has no seam."""
        if "learning_rate" in logs:
            if self._step.weights_before is not None:
                ratio = relative_change(self.network, self._step.weights_before)
                self._step.values["update_ratio"] = ratio
                self.totals.update_ratio += ratio
                self.totals.measured_ratios += 1
                self._step.weights_before = None
            logs = {**self._step.values, "learning_rate": logs["learning_rate"], "update": self.state.global_step}
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:  # type: ignore[override]
        """Score the evaluated split; the same metrics for every reduction."""
        rows = self.evaluator.evaluate(self.network, self.args.device, self.precision)
        scores = summarise(rows, self.evaluator.group_columns)
        metrics = {f"eval_{name}": value for name, value in scores.items() if value is not None}
        self.log({**metrics, "update": self.state.global_step})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def precision(self) -> AbstractContextManager[Any]:
        """Make the autocast context of a forward: the precision of training, before it and after it too."""
        return self.accelerator.autocast()

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint that counts only when it is whole, then drop the older ones."""
        update, mine = self.state.global_step, self.args.should_save
        with checkpoints.all_or_nothing(self.checkpoints, update, mine=mine):
            super()._save_checkpoint(model, trial)
            distributed.wait_for_all()
            if mine:
                memory = {"totals": vars(self.totals), "reduction_state": self.reduction_state.as_dict()}
                if self.matcher is not None:
                    memory["matcher"] = vars(self.matcher)
                # With its labels a checkpoint is a model that any trial can start from, or score.
                path = self.checkpoints / f"checkpoint-{update}"
                (path / "vocab.json").write_text(self.evaluator.vocabulary.as_json(), encoding="utf-8")
                self.evaluator.features.save_pretrained(path)
                checkpoints.seal(self.checkpoints, update, memory)
                best = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
                checkpoints.keep_newest(self.checkpoints, self.keep_checkpoints, spare=best)
        distributed.wait_for_all()

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Go on where a checkpoint stopped: counters, the state of the reduction, the running norm."""
        self.totals = Totals(**memory["totals"])
        self.room = Room(self.totals)
        self.reduction_state = State.from_dict(memory["reduction_state"])
        if self.matcher is not None:
            self.matcher = StepMatcher(**memory["matcher"])
