"""The trials of a plan: one model, data set and seed each, stored under a key."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from eyas.errors import ModelError
from eyas.exam.plan import Plan
from eyas.exam.plan_parts import NONE, DataPlan, StudentPlan, refusal, refusal_together, together_name
from eyas.exam.results import ADDED, FORMAT_VERSION, LAST_STAGE, LINEAR, START, TRANSFER, TWIN
from eyas.generation.recipes import make_recipe
from eyas.generation.run import DEFAULT_RECIPE
from eyas.models.loading import task_folders
from eyas.runtime.combination import JOINED
from eyas.settings import GENERAL, MAX_LENGTH, NO_START, TRANSFORMERS, WRITERS
from eyas.tasks import Task
from eyas.teachers.combined import RECIPES_OF
from eyas.training.arguments import with_precision
from eyas.training.recipes import default_recipe, make_stages, parse_recipe, recipe_source
from eyas.training.starts import start_identity, vectors_identity
from eyas.training.teachers import is_fine_tuned
from eyas.transfer import sources_of
from eyas.transfer.augmentation import identity

STATIC, ON_VECTORS = "static + LR", "encoder + LR"
BASELINES = (LINEAR[0], STATIC)
# Settings of a data set that its teacher's fingerprint has.
OF_TEACHER = ("confidence", "zero_shot", "domains")
OTHER_BASELINES = {"tagging": (LINEAR[1],), "fields": (LINEAR[2],), "generation": ()}


@dataclass(frozen=True)
class Trial:
    """One row of the results.

    Args:
        dataset: the data set and its teacher.
        kind: "teacher", "baseline", "student", or "member": one of several teachers.
        model: its name on the page.
        precision: precision of the export; empty for baselines.
        student, recipe, recipe_options, embeddings, seed, arguments: settings of a student.
        length: of a twin by default, relative to a training in one stage: that of the longest recipe beside it.
        added: the folder of a student made before, or the source of a member; then it has no settings.
        encoder: the encoder of a baseline on its vectors.
        together: of a student of several tasks, each task's data set and recipe; its trial of each has the same.
        without: the part of the student that this trial leaves out, `START` or `TRANSFER`; empty for none.
    """

    dataset: DataPlan
    kind: str
    model: str
    precision: str = ""
    student: StudentPlan | None = None
    recipe: str = ""
    embeddings: str = ""
    seed: int = 0
    recipe_options: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    length: float = 1.0
    without: str = ""
    added: str = ""
    encoder: str = ""
    together: tuple[tuple[DataPlan, str], ...] = ()

    @property
    def datasets(self) -> list[DataPlan]:
        """All data sets that it is trained on."""
        return [entry for entry, _ in self.together] or [self.dataset]

    def key(self, fingerprint: str) -> str:
        """A hash of everything that determines the outcome.

        Args:
            fingerprint: hash of the data sets and their teachers' weights.
        """
        init = None if self.student is None else self.student.init
        own = self.student is not None and self.student.architecture not in (*TRANSFORMERS, *WRITERS)
        settings = {
            **asdict(self),
            "dataset": {**_anonymous(self.dataset), "name": self.dataset.name if self.together else ""},
            "together": [({**_anonymous(entry), "name": entry.name}, recipe) for entry, recipe in self.together],
            "student": self.student and {**asdict(self.student), "name": ""},
            "model": self.model if self.kind == "baseline" else "",
            "vectors": vectors_identity(self.embeddings).get("vectors"),
            "sources": sources_of(self.dataset.transfer),
            "init": start_identity(init),
            "added": identity(self.added) or self.added,  # a name on the Hub has no files
            "encoder": [self.encoder, identity(self.encoder)] if self.encoder else "",
            "general": start_identity(GENERAL) if init is None and own else [],
            "fingerprint": fingerprint,
            **(recipe_source(parse_recipe(self.recipe)[0]) if ":" in self.recipe else {}),
            "format": FORMAT_VERSION,
        }
        if not self.together:
            del settings["together"]  # which older exams do not have
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def is_taught(self) -> bool:
        """Whether a stage of its recipe uses the teacher; an added student's is not known."""
        if self.added:
            return False
        if self.dataset.writes:
            return bool(make_recipe(*parse_recipe(self.recipe)).needs)
        return any(stage.needs_teacher for stage in make_stages(*parse_recipe(self.recipe)))

    @property
    def transfer(self) -> str:
        """A short description of the student's texts beyond the training texts; empty for none."""
        return "" if self.without == TRANSFER or self.added else self.dataset.texts(self.is_taught)

    @property
    def title(self) -> str:
        parts = [self.dataset.name, self.model, self.recipe or self.precision]
        if self.student is not None:
            parts += [f"{self.embeddings_name} embeddings", f"seed {self.seed}"]
        if self.without:
            parts.append(f"without {self.without}")
        return " · ".join(part for part in parts if part)

    @property
    def embeddings_name(self) -> str:
        return Path(self.embeddings).name if "/" in self.embeddings else self.embeddings


def _anonymous(entry: DataPlan) -> dict[str, Any]:
    """What determines an outcome beside the texts, their labels and the teacher."""
    settings = {name: value for name, value in asdict(entry).items() if name not in OF_TEACHER}
    if (entry.max_length or MAX_LENGTH) <= MAX_LENGTH:
        del settings["max_length"]  # which older exams do not have
    return {**settings, "name": "", "source": "", "unlabeled": (), "teacher": (), "encoder": None}


def fingerprint_of(trial: Trial, fingerprints: Mapping[str, str]) -> str:
    """The hash of the data sets of a trial and their teachers' weights, from those of each."""
    return " ".join(fingerprints[entry.name] for entry in trial.datasets)


def homes_of(trials: Iterable[tuple[Trial, str]]) -> dict[str, str]:
    """Of each trial of a student of several tasks, by key, the key of the first with the same student."""
    first: dict[str, str] = {}
    return {
        key: first.setdefault(str((trial.model, trial.embeddings, trial.seed, trial.together)), key)
        for trial, key in trials
        if trial.together
    }


def trials_of(plan: Plan, tasks: Mapping[str, Task], pairs: Collection[str] = ()) -> list[Trial]:
    """Teachers and baselines first, then all students with the first seed, then with the second, ...

    Args:
        tasks: {data set: task}.
        pairs: names of data sets of pairs of texts.

    Raises:
        ModelError: a student or a recipe of the plan fits none of the data sets.
    """
    _check_all_used(plan, tasks, pairs)
    return list(_all_trials(plan, tasks, pairs))


def _check_all_used(plan: Plan, tasks: Mapping[str, Task], pairs: Collection[str]) -> None:
    reasons: dict[str, list[str]] = {}
    for student, name, embeddings in product(plan.students, tasks, plan.embeddings):
        for recipe in (TWIN, *plan.recipes):
            reason = refusal(student, recipe, embeddings, name in pairs, tasks[name])
            reasons.setdefault(f"student {student.name}" if recipe == TWIN else recipe, []).append(reason)
    for unused, found in reasons.items():
        if all(found):
            raise ModelError(f"{unused}: {found[0]}")


def _all_trials(plan: Plan, tasks: Mapping[str, Task], pairs: Collection[str]) -> Iterator[Trial]:
    for entry in plan.datasets:
        members = members_of(entry)
        for precision in ("fp32", "int8"):
            if precision == "fp32" or _is_quantized(entry, *entry.teacher):
                yield Trial(entry, "teacher", "teacher", precision)
            for name, source in members.items():
                if precision == "fp32" or _is_quantized(entry, source):
                    yield Trial(entry, "member", name, precision, added=source)
        names = OTHER_BASELINES.get(tasks[entry.name].kind, BASELINES)
        for name in names if plan.baselines else ():
            yield Trial(entry, "baseline", name)
        whole = not tasks[entry.name].is_tagging and entry.name not in pairs
        if plan.baselines and whole and entry.encoder not in (None, NONE):
            yield Trial(entry, "baseline", ON_VECTORS, encoder=str(entry.encoder))
        for folder in plan.add:
            name, tasks_of = Path(folder).resolve().name, task_folders(folder)
            if not tasks_of or entry.name in tasks_of:
                made = str(tasks_of.get(entry.name, folder))
                yield Trial(entry, "student", name, plan.precision, recipe=ADDED, embeddings="teacher", added=made)
    for seed in plan.seeds:
        for entry in plan.datasets:
            for student in plan.students:
                combined = RECIPES_OF.get(entry.teachers) if len(entry.teacher) > 1 else None
                usual = DEFAULT_RECIPE if entry.writes else default_recipe(tasks[entry.name], student.crf)
                chosen = plan.recipes or (combined or usual,)
                for embeddings in plan.embeddings:
                    how = (embeddings, entry.name in pairs, tasks[entry.name])
                    fitting = [name for name in chosen if not refusal(student, name, *how)]
                    staged = [] if entry.writes else fitting
                    controls = [] if not plan.twins or refusal(student, TWIN, *how) else [TWIN, *_last_stages(staged)]
                    same = _starting_alike(student, staged, plan.embeddings)
                    longest = max(map(_length, staged), default=1.0)
                    for recipe in dict.fromkeys([*fitting, *controls]):
                        yield Trial(
                            entry,
                            "student",
                            student.name,
                            plan.precision,
                            same,
                            recipe,
                            embeddings,
                            seed,
                            arguments=with_precision(dict(plan.arguments), student.architecture),
                            length=longest if recipe == TWIN else 1.0,
                        )
    if plan.together:
        yield from _together(plan, tasks, pairs)


def _together(plan: Plan, tasks: Mapping[str, Task], pairs: Collection[str]) -> Iterator[Trial]:
    """Students of all data sets at once. All trials of the first data set first: the others use their trainings."""
    found, refused = [], list[str]()
    for student, recipe, embeddings in product(plan.students, plan.recipes or ("",), plan.embeddings):
        own, reasons = [], []
        for entry in plan.datasets:
            task = tasks[entry.name]
            fitted = student if task.is_tagging else replace(student, crf=False)
            chosen = recipe or default_recipe(task, fitted.crf)
            reason = refusal_together(student, recipe, embeddings, entry)
            reasons.append(reason or refusal(fitted, chosen, embeddings, entry.name in pairs, task))
            own.append((entry, chosen))
        if not any(reasons):
            found.append((student, embeddings, tuple(own)))
        refused += filter(None, reasons)
    if not found:
        raise ModelError(f"together: {refused[0]}")
    for place, seed in product(range(len(plan.datasets)), plan.seeds):
        for student, embeddings, together in found:
            fitting = [recipe for recipe in plan.recipes if not refusal(student, recipe)]
            yield Trial(
                together[place][0],
                "student",
                together_name(student),
                plan.precision,
                _starting_alike(student, fitting, plan.embeddings),
                together[place][1],
                embeddings,
                seed,
                arguments=with_precision(dict(plan.arguments), student.architecture),
                together=together,
            )


def members_of(entry: DataPlan) -> dict[str, str]:
    """{name on the page: source} of several teachers; none of a single one, and of those that know some labels."""
    if len(entry.teacher) < 2 or entry.teachers == JOINED:
        return {}
    names = [f"teacher {Path(folder).name}" for folder in entry.teacher]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return dict(zip(names, entry.teacher, strict=True))


def _is_quantized(entry: DataPlan, *sources: str) -> bool:
    """Whether these teachers are also examined in int8: as models that the exam exports."""
    return all(is_fine_tuned(source, entry.zero_shot is not None) for source in sources)


def without_parts(trial: Trial, start: str | None) -> Iterator[Trial]:
    """The trial of a student again without its start, and without the texts beyond the training texts.

    Args:
        start: what the student started from; None or "none" for nothing.
    """
    assert trial.student is not None
    if start not in (None, NO_START) and trial.student.architecture not in (*TRANSFORMERS, *WRITERS):
        yield replace(trial, student=replace(trial.student, init=NO_START), without=START)
    if trial.transfer:
        yield replace(trial, without=TRANSFER)


def _starting_alike(student: StudentPlan, recipes: Sequence[str], embeddings: Sequence[str]) -> StudentPlan:
    """The student, without a default start if only some of its recipes or word vectors allow one."""
    stages = [stage for recipe in recipes for stage in make_stages(*parse_recipe(recipe))]
    one_start = len(embeddings) == 1 and not any(stage.needs_layers for stage in stages)
    if student.init is not None or student.architecture in TRANSFORMERS or one_start:
        return student
    return replace(student, init=NO_START)


def _length(recipe: str) -> float:
    return sum(stage.length for stage in make_stages(*parse_recipe(recipe)))


def _last_stages(recipes: Sequence[str]) -> list[str]:
    """Of each recipe with several stages the last one."""
    return [recipe + LAST_STAGE for recipe in recipes if len(make_stages(*parse_recipe(recipe))) > 1]
