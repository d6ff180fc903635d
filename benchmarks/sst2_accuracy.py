"""Accuracy of the students on SST-2's 872 validation sentences, in two settings, several seeds.

(a) all labels: hard labels against logit-mse, one teacher that was trained on all of them;
(b) 10 % of the labels: a teacher fine-tuned on them, the other 90 % of the phrases as unlabeled text.

The validation sentences choose nothing: students train a fixed number of steps and the last weights are scored; in
(b) the teacher's checkpoint is chosen on a part of its own 10 %. Finished rows are never run again.

    python benchmarks/sst2_accuracy.py --data DATA --teacher TEACHER --encoder ENCODER
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from common import append_row, machine, read_rows

from eyas import Classifier, DistillSettings, FinetuneSettings, StudentSettings, Teacher, evaluate, load_data
from eyas.data.task_data import TaskData
from eyas.training.distill import distill
from eyas.training.finetune import finetune

NO_SELECTION = {"load_best_model_at_end": False, "eval_strategy": "no", "save_strategy": "no"}


def run(settings_name, student, recipe, seed, teacher, data, unlabeled=None):
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = DistillSettings(StudentSettings(student), recipe=recipe, arguments=NO_SELECTION, seed=seed)
        out = distill(teacher, data, Path(folder) / "student", settings, unlabeled)
        seconds = time.perf_counter() - started
        classifier = Classifier.from_pretrained(out)
        reference = Classifier(teacher.model, teacher.tokenizer)
        scores = evaluate(classifier, data["validation"], reference)
        parameters = classifier.model.num_parameters()
    return {
        "setting": settings_name,
        "student": student,
        "recipe": recipe,
        "seed": seed,
        **{name: round(scores[name], 4) for name in ("accuracy", "teacher_accuracy", "retention", "agreement")},
        "parameters": parameters,
        "seconds": round(seconds, 1),
        **machine(),
    }


def tenth(data, seed):
    """10 % of the labeled rows (a part of them to validate on), and the rest as unlabeled text."""
    train = data["train"]
    order = np.random.default_rng(seed).permutation(len(train))
    size = len(train) // 10
    few, rest = train.select(np.sort(order[:size])), train.select(np.sort(order[size:]))
    own = TaskData(train=few.select(range(size * 9 // 10)), validation=few.select(range(size * 9 // 10, size)))
    return TaskData(train=few, validation=data["validation"]), own, rest.remove_columns("label")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", required=True, help="a teacher trained on all labels")
    parser.add_argument("--encoder", help="the pretrained encoder for (b); by default the demo's")
    parser.add_argument("--work", default="/tmp/sst2_accuracy", help="folder for the teachers of (b)")
    parser.add_argument("--students", nargs="*", default=["bilstm", "cnn", "static", "cnn-lstm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", default="benchmarks/results/sst2_accuracy.jsonl")
    arguments = parser.parse_args()
    data = load_data(arguments.data)
    done = {(r["setting"], r["student"], r["recipe"], r["seed"]) for r in read_rows(arguments.out)}

    def add(*key, **inputs):
        if key not in done:
            append_row(arguments.out, run(*key, **inputs))
            print(json.dumps(read_rows(arguments.out)[-1]), flush=True)

    if arguments.encoder is None:
        from eyas.demo import encoder_folder

        arguments.encoder = encoder_folder()
    full = Teacher(arguments.teacher)
    for seed in arguments.seeds:
        few, own, rest = tenth(data, seed)
        made = finetune(arguments.encoder, own, Path(arguments.work) / f"teacher-{seed}", FinetuneSettings(seed=seed))
        tenth_teacher = Teacher(made)
        for student in arguments.students:
            for recipe in ("hard-labels", "logit-mse"):
                add("a", student, recipe, seed, teacher=full, data=data)
                add("b", student, recipe, seed, teacher=tenth_teacher, data=few, unlabeled=rest)


if __name__ == "__main__":
    main()
