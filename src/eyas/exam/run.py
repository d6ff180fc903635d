"""Run an exam: every trial of a plan once, then measure cost side by side."""

import json
import logging
import multiprocessing
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eyas._version import __version__
from eyas.errors import DataError, EyasError, OutputError
from eyas.exam.cost import machine, measure_costs
from eyas.exam.entries import check_data, inspect, outline, prepare
from eyas.exam.estimate import duration
from eyas.exam.loaded import DatasetFacts, read
from eyas.exam.origins import meta_teacher
from eyas.exam.plan import Plan
from eyas.exam.plan_file import to_yaml
from eyas.exam.plan_parts import DataPlan
from eyas.exam.results import (
    COSTS,
    FAILURE,
    FORM,
    FORMAT_VERSION,
    MACHINE,
    PLAN,
    RESULT,
    RESULTS,
    SHIPPED,
    TEACHERS,
    Requirements,
    candidates,
    load_exam,
    read_rows,
    winner,
)
from eyas.exam.trial_run import describe, run_trial
from eyas.exam.trials import Trial, fingerprint_of, homes_of, trials_of, without_parts
from eyas.exam.tune import OPTIONS, apply, check_search, search
from eyas.exam.workers import Failure, LocalWorker, LocalWorkers, RayWorkers, ThisProcess, Workers
from eyas.outputs import RUN_FILE, lock_folder, refuse_old_name, write_atomically
from eyas.tasks import Task
from eyas.verbosity import without_bars

logger = logging.getLogger("eyas")

# The time of a teacher or a baseline, relative to a student's.
QUICK = 0.05


@without_bars()
def run_exam(plan: Plan, out: str | Path, jobs: int = 1, ray: str | None = None, ray_cpus: float = 1) -> Path:
    """Run the missing trials of an exam and measure cost.

    Finished trials never run again; failed ones do. An interrupted exam resumes when it is called again. `out` may
    hold trials of other plans; shared trials are not repeated.

    Args:
        out: folder for results.jsonl, costs.jsonl, plan.yaml and one folder per trial.
        jobs: parallel trials on this machine, each in its own process; 0 = one after another in this process.
        ray: address of a Ray cluster to run the trials on instead.
        ray_cpus: processors per trial on the cluster.

    Returns:
        `out`.

    Raises:
        EyasError: invalid input (raised before any training), or another exam is running in `out`.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise EyasError(
            "A process of this exam has imported the script that started it. Put the call to run_exam under "
            "`if __name__ == '__main__':`."
        )
    if plan.tune:
        check_search()
    folder = Path(out).absolute()
    _claim(folder)
    lock = lock_folder(folder, inside=True)
    try:
        with LocalWorker() if jobs else ThisProcess() as worker:
            # In the exam's own plan.yaml, and no path of this machine.
            as_given = {
                entry.name: {name: getattr(entry, name) for name in ("encoder", "teacher", "domains")}
                for entry in plan.data
            }
            plan = _with_meta_teachers(worker, plan, folder)
            tasks, pairs, defaults = _check_tasks(worker, plan.datasets)
            plan = _completed(plan, defaults)
            facts = {entry.name: _prepared(worker, entry) for entry in plan.datasets}
        write_atomically(folder / PLAN, to_yaml(plan.completed(as_given)))
        with _workers(jobs, ray, ray_cpus) as workers:
            found = trials_of(plan, tasks, pairs)
            if plan.tune:
                found = _tuned(workers, found, plan.tune, facts, folder)
            trials = _keyed(found, facts)
            _run_missing(workers, trials, folder)
        rows = _write_rows(trials, facts, folder)
        for entry in plan.datasets:
            _measure(plan, entry, rows, facts[entry.name], folder)
        if plan.twins:
            parts = _keyed(_parts(trials, folder), facts)
            with _workers(jobs, ray, ray_cpus) as workers:
                _run_missing(workers, parts, folder)
            _write_rows([*trials, *parts], facts, folder)
    finally:
        lock.release()
    return folder


def _workers(jobs: int, ray: str | None, ray_cpus: float) -> LocalWorkers | RayWorkers | ThisProcess:
    if ray:
        return RayWorkers(ray, ray_cpus)
    return LocalWorkers(jobs) if jobs else ThisProcess()


@without_bars()
def planned_trials(plan: Plan) -> list[Trial]:
    """The trials of a plan. Reads the data, but not the teachers, which may have more labels."""
    found = {entry.name: outline(entry, read(entry)) for entry in plan.datasets}
    plan = plan.completed({name: defaults for name, (_, _, defaults) in found.items()})
    pairs = {name for name, (inputs, _, _) in found.items() if inputs == 2}
    return trials_of(plan, {name: task for name, (_, task, _) in found.items()}, pairs)


def _claim(folder: Path) -> None:
    """Create the folder, or check that it belongs to an exam."""
    marker = folder / RUN_FILE
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, expected a folder or nothing. Choose another --out.")
    if folder.is_dir() and any(not path.name.endswith(".tmp") for path in folder.iterdir()):
        try:
            command = json.loads(marker.read_text())["settings"]["command"]
        except (OSError, ValueError, KeyError, TypeError):
            command = None
        if command != "exam":
            refuse_old_name(folder)
            raise OutputError(f"{folder} exists and is not an exam. Nothing was changed. Choose another --out.")
        _known_rows(folder / RESULTS)  # refuses results of a newer version
        return
    folder.mkdir(parents=True, exist_ok=True)
    record = {"eyas_version": __version__, "settings": {"command": "exam"}}
    write_atomically(marker, json.dumps(record, indent=2) + "\n")


def _completed(plan: Plan, defaults: Mapping[str, dict[str, Any]]) -> Plan:
    """The plan with the defaults of each data set, as in `distill`."""
    for entry in plan.data:
        if entry.augment is None and defaults[entry.name]["augment"]:
            logger.info(
                "%s: the students also train on new texts made from the training texts (augment: %s). "
                "In a plan, augment: none turns this off.",
                entry.name, ", ".join(defaults[entry.name]["augment"]),
            )  # fmt: skip
    return plan.completed(defaults)


def _check_tasks(
    worker: LocalWorker | ThisProcess, entries: Sequence[DataPlan]
) -> tuple[dict[str, Task], set[str], dict[str, dict[str, Any]]]:
    """Load every data set first and refuse different tasks for the same teacher.

    Returns:
        {data set: task}, the names of the data sets of pairs, and {data set: defaults of its plan}.
    """
    taught: dict[tuple[Any, ...], tuple[str, Any]] = {}
    tasks, pairs, defaults = {}, set(), {}
    for entry in entries:
        task = worker.call(inspect, entry)
        if isinstance(task, Failure):
            raise DataError(f"Data set {entry.name}: {task.error}")
        other, known = taught.setdefault((entry.teacher, str(entry.zero_shot)), (entry.name, task))
        tasks[entry.name], defaults[entry.name] = task[1:]
        pairs |= {entry.name} if task[0] == 2 else set()
        if task[0] != known[0] or task[1].kind != known[1].kind or len(task[1].labels) != len(known[1].labels):
            raise DataError(
                f"Data sets {other} and {entry.name} have different tasks ({_task_text(known)}; {_task_text(task)}), "
                f"but the same teacher, {', '.join(entry.teacher)}. Name a teacher for each."
            )
    return tasks, pairs, defaults


def _task_text(task: tuple[int, Task, dict[str, Any]]) -> str:
    return f"{task[1].describe()} of {'pairs of texts' if task[0] == 2 else 'single texts'}"


def _with_meta_teachers(worker: LocalWorker | ThisProcess, plan: Plan, folder: Path) -> Plan:
    """The plan with the teachers that are fine-tuned on its domains, after all data sets were read."""
    made = {}
    for entry in plan.datasets if any(entry.domains for entry in plan.data) else ():
        if isinstance(found := worker.call(check_data, entry), Failure):
            raise EyasError(f"Data set {entry.name}: {found.error}")
    for entry in plan.datasets:
        if entry.domains is None:
            continue
        logger.info("%s: fine-tuning %s on %s.", entry.name, entry.teacher[0], ", ".join(entry.domains))
        teacher = worker.call(meta_teacher, entry, folder / TEACHERS)
        if isinstance(teacher, Failure):
            raise EyasError(f"Data set {entry.name}: {teacher.error}")
        made[entry.name] = {"teacher": (str(teacher),), "domains": None}
    return plan.completed({entry.name: made.get(entry.name, {}) for entry in plan.data})


def _tuned(
    workers: Workers, trials: list[Trial], tries: int, facts: dict[str, DatasetFacts], folder: Path
) -> list[Trial]:
    """Search the settings of each student and apply them to its trials."""
    first: dict[tuple[str, ...], Trial] = {}
    for trial in trials:
        if trial.student is not None:
            first.setdefault(_searched(trial), trial)
    logger.info("Searching the settings of %d students, %d tries each.", len(first), tries)
    keys = {name: trial.key(facts[trial.dataset.name].fingerprint) for name, trial in first.items()}
    by_key: dict[str, tuple[str, ...]] = {}
    for name, key in keys.items():
        by_key.setdefault(key, name)  # two names may be of the same settings
    names = list(by_key.values())
    tasks = [(search, (first[name], tries, folder / "tuning" / keys[name])) for name in names]
    settings: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, outcome in workers.run(tasks):
        trial = first[names[number]]
        if isinstance(outcome, Failure):
            logger.warning("%s: the search failed (%s); using the default settings.", trial.title, outcome.error)
            continue
        settings |= {name: outcome for name, key in keys.items() if key == keys[names[number]]}
        said = ", ".join(f"{name} {value:.4g}" for name, value in outcome.items())
        logger.info("%s: %s", trial.title, said or "nothing to search, the plan sets all.")
    tuned = []
    for trial in trials:
        outcome = settings.get(_searched(trial), {})
        if outcome and trial.recipe != first[_searched(trial)].recipe:  # options of another recipe have another meaning
            outcome = {name: value for name, value in outcome.items() if name not in OPTIONS}
        tuned.append(apply(trial, outcome))
    return tuned


def _searched(trial: Trial) -> tuple[str, ...]:
    """The key of a search. All recipes of a student share the settings found with its first, to stay comparable."""
    return trial.dataset.name, trial.model, trial.embeddings


def _prepared(worker: LocalWorker | ThisProcess, entry: DataPlan) -> DatasetFacts:
    logger.info("%s: reading the data, labeling it with %s.", entry.name, ", ".join(entry.teacher))
    facts = worker.call(prepare, entry)
    if isinstance(facts, Failure):
        raise EyasError(f"Data set {entry.name}: {facts.error}")
    assert isinstance(facts, DatasetFacts)
    counts = ", ".join(f"{name} {count:,}" for name, count in facts.rows.items() if count)
    damage = f"; training labels: {entry.damage.describe()}" if entry.damage.describe() else ""
    logger.info("%s: %s; scored on %s%s.", entry.name, counts, facts.split, damage)
    return facts


def _keyed(trials: Iterable[Trial], facts: Mapping[str, DatasetFacts]) -> list[tuple[Trial, str]]:
    fingerprints = {name: found.fingerprint for name, found in facts.items()}
    return [(trial, trial.key(fingerprint_of(trial, fingerprints))) for trial in trials]


def _run_missing(workers: Workers, trials: Sequence[tuple[Trial, str]], folder: Path) -> None:
    each: dict[str, Trial] = {}
    for trial, key in trials:
        each.setdefault(key, trial)  # two names may be of the same settings
    missing = [(trial, key) for key, trial in each.items() if not _result(folder, key).is_file()]
    if len(missing) < len(each):
        logger.info("%d of %d trials are already finished.", len(each) - len(missing), len(each))
    if not missing:
        return
    homes, places = homes_of(trials), folder / "trials"
    tasks = [(run_trial, (trial, key, places / key, places / homes.get(key, key))) for trial, key in missing]
    started, teachers, finished = time.monotonic(), {}, 0.0
    efforts = [1.0 if trial.kind == "student" and homes.get(key, key) == key else QUICK for trial, key in missing]
    for done, (number, outcome) in enumerate(workers.run(tasks), 1):
        trial, key = missing[number]
        if isinstance(outcome, Failure):
            where = folder / "trials" / key
            where.mkdir(parents=True, exist_ok=True)
            write_atomically(where / FAILURE, json.dumps({"error": outcome.error}))
            said = f"failed: {outcome.error}"
        else:
            if trial.kind == "teacher" and trial.precision == "fp32":
                teachers[trial.dataset.name] = outcome["score"]
            said = f"{outcome['metric'].replace('_', ' ')} {outcome['score']:.1%}"
            if teachers.get(trial.dataset.name):
                said += f", {outcome['score'] / teachers[trial.dataset.name]:.1%} of the teacher"
        finished += efforts[number]
        if finished >= 1 or sum(efforts) < 1:  # until a student has trained, nothing is known of its time
            left = (time.monotonic() - started) / finished * (sum(efforts) - finished)
            said += f" ({duration(max(left, 0.0))} left)"
        logger.info("%d/%d %s: %s", done, len(tasks), trial.title, said)


def _result(folder: Path, key: str) -> Path:
    return folder / "trials" / key / RESULT


def _outcome(trial: Trial, key: str, facts: DatasetFacts, folder: Path) -> dict[str, Any]:
    """The trial's row, with the names of this plan."""
    where, about = folder / "trials" / key, {**describe(trial), "data_key": facts.data_key}
    if _result(folder, key).is_file():
        return {**json.loads(_result(folder, key).read_text()), **about}
    error = json.loads((where / FAILURE).read_text())["error"]
    return {"format_version": FORMAT_VERSION, "key": key, "status": "failed", **about, "error": error}


def _write_rows(
    trials: Sequence[tuple[Trial, str]], facts: Mapping[str, DatasetFacts], folder: Path
) -> list[dict[str, Any]]:
    """Write the rows of these trials, and return them."""
    rows = [_outcome(trial, key, facts[trial.dataset.name], folder) for trial, key in trials]
    write_atomically(folder / RESULTS, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    return rows


def _parts(trials: Sequence[tuple[Trial, str]], folder: Path) -> Iterator[Trial]:
    """The best student of each data set, without each of its parts."""
    known = {(key, trial.dataset.name, trial.model): trial for trial, key in trials}
    table = candidates(load_exam(folder))
    for _, rows in table.groupby("dataset", sort=False):
        index, _ = winner(rows, Requirements())
        best: dict[str, Any] = {"keys": ()} if index is None else dict(rows.loc[index])
        for key in best["keys"]:
            trial = known[key, best["dataset"], best["model"]]
            if not trial.added and not trial.together:
                start = json.loads(_result(folder, key).read_text()).get("start")
                yield from without_parts(trial, start)


def _measure(plan: Plan, entry: DataPlan, rows: list[dict[str, Any]], facts: DatasetFacts, folder: Path) -> None:
    """Measure the cost of every form of model on one data set in one run, unless all forms are measured already."""
    forms: dict[tuple[str, ...], str] = {}
    for row in rows:
        if row["dataset"] == entry.name and row["status"] == "done":
            forms.setdefault(tuple(row[column] for column in FORM), row["key"])
    how = plan.cost.model_dump()
    known = _known_rows(folder / COSTS)
    others = [row for row in known if row["dataset"] != entry.name]
    measured = {tuple(row[c] for c in FORM): row["key"] for row in known if all(row.get(k) == how[k] for k in how)}
    reference = next((form for form in forms if form[1] == "teacher" and form[3] == "fp32"), None)
    if reference is None:
        logger.warning("%s: cost is not measured, because the fp32 teacher failed.", entry.name)
        return
    forms = {form: key for form, key in forms.items() if (folder / "trials" / key / SHIPPED).is_dir()}
    if all(measured.get(form) == key for form, key in forms.items()):
        return
    logger.info("%s: measuring the cost of %d models side by side.", entry.name, len(forms))
    folders = {key: folder / "trials" / key / SHIPPED for key in forms.values()}
    texts = facts.texts[: plan.cost.texts]
    costs = measure_costs(folders, forms.get(reference), texts, plan.cost.rounds, plan.cost.threads)
    named = [
        {"format_version": FORMAT_VERSION, "key": key, **dict(zip(FORM, form, strict=True)), **costs[key], **how}
        for form, key in forms.items()
    ]
    write_atomically(folder / MACHINE, json.dumps(machine(), indent=2) + "\n")
    write_atomically(folder / COSTS, "".join(f"{json.dumps(row)}\n" for row in [*others, *named]))


def _known_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier run; none if the file is damaged, because it will be rewritten."""
    try:
        return read_rows(path)
    except DataError as error:
        logger.warning("%s", error)
        return []
