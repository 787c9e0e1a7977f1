"""One trial with stock transformers: the counterpart in grid_vs_loop.py. Takes its settings as JSON, prints its result.

Everything is as a user would write it from transformers' own examples: dataset decoded into memory, padding collator,
random batches, `ctc_loss_reduction` in the model's configuration, `compute_metrics` with jiwer after each epoch.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile
import soxr
import torch
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainingArguments, set_seed

from trainables.ctc import frame_counts
from trainables.models import tiny
from trainables.vocabulary import Vocabulary, normalise


def main() -> None:
    """Train and evaluate."""
    job = json.loads(sys.argv[1])
    set_seed(job["seed"])
    rows = _rows(Path(job["data"]))
    vocabulary = Vocabulary.from_transcripts(row["text"] for row in rows if row["split"] == "train")
    features = tiny.start(None).features()
    splits = {
        split: [_example(row, vocabulary, Path(job["data"]).parent) for row in rows if row["split"] == split]
        for split in ("train", "validation")
    }
    model = tiny.build(vocabulary, {"ctc_loss_reduction": job["reduction"], "ctc_zero_infinity": True})

    def collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = features([one["audio"] for one in examples], sampling_rate=16_000, padding=True, return_tensors="pt")
        longest = max(len(one["labels"]) for one in examples)
        labels = [one["labels"] + [-100] * (longest - len(one["labels"])) for one in examples]
        return {**batch, "labels": torch.tensor(labels)}

    def score(prediction: EvalPrediction) -> dict[str, float]:
        best = np.argmax(prediction.predictions, axis=-1)
        samples = torch.tensor([len(one["audio"]) for one in splits["validation"]])
        counts = frame_counts(model, samples.tolist())  # what comes behind is padding, never trained
        hypotheses = [vocabulary.decode(frames[:count].tolist()) for frames, count in zip(best, counts)]
        references = [row["text"] for row in rows if row["split"] == "validation"]
        return {"wer": float(jiwer.wer(references, hypotheses))}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=job["update_size"],
            per_device_eval_batch_size=job["update_size"],
            learning_rate=job["learning_rate"],
            num_train_epochs=job["epochs"],
            warmup_steps=0.2,
            weight_decay=0.0,
            seed=job["seed"],
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model, arguments, data_collator=collate, train_dataset=splits["train"],  # type: ignore[arg-type]
            eval_dataset=splits["validation"], compute_metrics=score,  # type: ignore[arg-type]
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        scores = trainer.evaluate()
    result = {
        "reduction": job["reduction"],
        "seed": job["seed"],
        "updates": trainer.state.global_step,
        "wer": scores["eval_wer"],
    }
    print(json.dumps(result))


def _rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8", newline="") as file:
        return [{**row, "text": normalise(row["transcript"])} for row in csv.DictReader(file)]


def _example(row: dict[str, str], vocabulary: Vocabulary, folder: Path) -> dict[str, Any]:
    audio, rate = soundfile.read(folder / (row.get("audio") or row["path"]), dtype="float32", always_2d=True)
    return {"audio": soxr.resample(audio.mean(axis=1), rate, 16_000), "labels": vocabulary.encode(row["text"])}


if __name__ == "__main__":
    main()
