"""The questions of Nityasya et al. 2022 on three of our data sets: which loss, which word vectors, which student?

Fine-tunes the teachers that are missing, then runs the exam of a plan, and keeps its rows and charts in place of the
earlier ones of the same data sets. It goes on where it stopped. SST-2's validation sentences are its test split here;
a tenth of train validates.

    python benchmarks/which_student.py --shared SHARED --work FOLDER [--jobs 2] [--plan which_student_long.yaml]
"""

import argparse
import shutil
from pathlib import Path

import common
import yaml
from common import machine, write_rows

from eyas import FinetuneSettings, load_data
from eyas.demo import encoder_folder
from eyas.exam.plan_file import read_plan
from eyas.exam.results import candidates, load_exam, read_rows
from eyas.exam.run import run_exam
from eyas.report import write_page
from eyas.report.charts import as_file, pareto
from eyas.report.verdict import mark_front
from eyas.training.finetune import finetune

HERE = Path(__file__).parent
# Name in the plan: (folder in shared/data, epochs of the teacher; None = the one in shared/models).
DATA = {"SST-2": ("sst2", None), "SmSA": ("indonlu/smsa", 3), "CLINC150": ("clinc150", 6)}


def _prepare(name: str, shared: Path, work: Path) -> None:
    """Data and teacher of one data set, under the names that the plan has for them."""
    source, epochs = DATA[name]
    short = Path(source).name
    data, teacher = work / "data" / short, work / "teachers" / short
    data.mkdir(parents=True, exist_ok=True)
    teacher.parent.mkdir(exist_ok=True)
    for file in (shared / "data" / source).iterdir():
        if file.stem in ("train", "validation", "test"):
            stem = "test" if (name, file.stem) == ("SST-2", "validation") else file.stem
            shutil.copy2(file, data / f"{stem}{file.suffix}")
    if teacher.exists():
        return
    if epochs is None:
        teacher.symlink_to(shared / "models" / "minilm-sst2")
        return
    settings = FinetuneSettings(arguments={"num_train_epochs": epochs, "learning_rate": 5e-5})
    finetune(encoder_folder(), load_data(data), teacher, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, help="the folder with data/ and models/")
    parser.add_argument("--work", required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--ray", help="address of a Ray cluster")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", help="names of data sets")
    parser.add_argument("--plan", default="which_student.yaml")
    arguments = parser.parse_args()
    shared, work = Path(arguments.shared).resolve(), Path(arguments.work).resolve()
    plan_file = HERE / arguments.plan
    listed = [entry["name"] for entry in yaml.safe_load(plan_file.read_text())["data"]]
    names = [name for name in listed if name in (arguments.only or listed)]
    for name in names:
        _prepare(name, shared, work)
    shutil.copy2(plan_file, work / "plan.yaml")
    plan = common.as_written(read_plan(work / "plan.yaml"))  # now that data and teachers are there
    chosen = tuple(entry for entry in plan.data if entry.name in names)
    plan = plan.model_copy(update={"data": chosen, "seeds": tuple(arguments.seeds)})
    folder = run_exam(plan, work / "exam", arguments.jobs, arguments.ray)
    write_page(folder)
    for name, kept, about in (("results", "which_student", machine()), ("costs", "which_student_costs", {})):
        path = HERE / "results" / f"{kept}.jsonl"
        others = [row for row in common.read_rows(path) if row["dataset"] not in names]
        ours = [
            row for row in read_rows(folder / f"{name}.jsonl") if row["dataset"] in names and not row.get("without")
        ]
        write_rows(path, others + [{**row, **about} for row in ours])
    table = candidates(load_exam(folder))
    table["front"] = mark_front(table)
    images = HERE.parent / "docs" / "images"
    images.mkdir(exist_ok=True)
    for name, rows in table.groupby("dataset"):
        as_file(pareto(rows.assign(winner=False)), images / f"exam-{name}.svg")


if __name__ == "__main__":
    main()
