"""What the trainer adds to forward, backward and optimizer, per step, for `cnn` and `bilstm` at batch 64.

The bare loop and the trainer take turns on the same batches; the overhead is the difference of their medians.

    python benchmarks/trainer_overhead.py --data DATA --teacher TEACHER
"""

import argparse
import json
import tempfile
import time

import numpy as np
import torch
from common import machine, write_rows
from transformers import TrainerCallback

from eyas import (
    DistillationArguments,
    DistillationTrainer,
    LogitMSELoss,
    StudentSettings,
    Teacher,
    create_student,
    load_data,
)
from eyas.training.batches import LengthGroupedBatchSampler
from eyas.training.encoded import EncodedTexts
from eyas.training.optimizer import LazyAdamW, clip_gradients, set_sparse_embeddings

ROWS, BATCH = 12_800, 64


class StepTimes(TrainerCallback):
    """Time from the end of one step to the end of the next: everything the trainer does."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())


def bare_loop(model, encoded, cached):
    """Forward, loss, backward, clip, step on ready batches; seconds of each step."""
    set_sparse_embeddings(model, True)
    optimizer = LazyAdamW(model, 2e-3, 1e-4)
    batches = [encoded.__getitems__(rows) for rows in LengthGroupedBatchSampler(encoded.lengths, BATCH, 0)]
    loss, times = LogitMSELoss(), []
    model.train()
    for batch in batches:
        started = time.perf_counter()
        teacher = cached.outputs(batch)
        outputs = model(batch["input_ids"], batch["attention_mask"])
        loss(outputs, teacher, batch).backward()
        clip_gradients(model, 5.0)
        optimizer.step()
        model.zero_grad()
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--out", default="benchmarks/results/trainer_overhead.jsonl")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    data, teacher = load_data(arguments.data), Teacher(arguments.teacher)
    train = data["train"].select(range(ROWS))
    cached = teacher.label(train)
    rows = []
    for architecture in ("cnn", "bilstm"):
        bare, trained = [], []
        for _ in range(arguments.rounds):
            settings = StudentSettings(architecture)
            model, tokenizer = create_student(settings, teacher, data["train"], teacher.label_names)
            bare += bare_loop(model, EncodedTexts(train, tokenizer, 256), cached)
            model, tokenizer = create_student(settings, teacher, data["train"], teacher.label_names)
            times = StepTimes()
            with tempfile.TemporaryDirectory() as folder:
                options = {"output_dir": folder, "num_train_epochs": 1, "load_best_model_at_end": False}
                DistillationTrainer(
                    model, DistillationArguments(**options, save_strategy="no", eval_strategy="no"),
                    train_dataset=train, processing_class=tokenizer, losses=[LogitMSELoss()], teacher=cached,
                    callbacks=[times],
                ).train()  # fmt: skip
            trained += np.diff(times.ends).tolist()
        bare_ms, trained_ms = np.median(bare) * 1e3, np.median(trained) * 1e3
        rows.append(
            {
                "student": architecture,
                "bare_ms": round(bare_ms, 3),
                "trainer_ms": round(trained_ms, 3),
                "overhead_ms": round(trained_ms - bare_ms, 3),
                "overhead": round(trained_ms / bare_ms - 1, 4),
                "threads": torch.get_num_threads(),
                **machine(),
            }
        )
        print(json.dumps(rows[-1]))
    write_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
