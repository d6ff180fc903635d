"""The plan of an exam: data sets x students x recipes x embeddings x seeds."""

from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from eyas.errors import ModelError
from eyas.exam.plan_parts import DataPlan, StudentPlan, as_tuple, known_rule, refusal, refusal_together, together_name
from eyas.exam.results import TWIN
from eyas.generation.recipes import make_recipe
from eyas.generation.run import check_settings
from eyas.kinds import GENERATION
from eyas.models.loading import task_folders
from eyas.settings import MAX_LENGTH, SMALLER, STUDENTS, VECTORS, WRITERS, DistillSettings, check_seed
from eyas.training.arguments import known_arguments
from eyas.training.recipes import make_stages, option_text, parse_recipe
from eyas.training.several_tasks import NAME
from eyas.training.teachers import with_recipe_of

# Fields of a plan that hold several, or one.
LISTS = ("data", "students", "recipes", "embeddings", "add")


def with_lists(content: Any) -> Any:
    """A plan in which a single data set, student, recipe ... is a list of one."""
    if not isinstance(content, dict):
        return content
    single = {
        name: content[name] for name in LISTS if isinstance(content.get(name), str | dict | DataPlan | StudentPlan)
    }
    return {**content, **{name: [value] for name, value in single.items()}}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CostPlan(_Strict):
    """How cost is measured: on `texts` validation texts, `rounds` times, with `threads` threads."""

    texts: int = Field(default=200, ge=10, le=1000)
    rounds: int = Field(default=3, ge=1)
    threads: int = Field(default=1, ge=1)


class Plan(_Strict):
    """An exam.

    Attributes:
        data: data sets; a path, a `DataPlan`, or a list of them.
        teacher: the default teacher of the data sets, or several.
        teachers: how several teachers are combined, as for `distill`.
        students: architectures, with sizes; of students that write by default a smaller model of the teacher's family.
        recipes: keys of `RECIPES`, each for the students it supports; with options, `tinybert mapping=top` or
            `{recipe: tinybert, mapping: top}`. By default, the default recipe of each task.
        embeddings: sources of word vectors: "teacher", "random" or files of vectors.
        seeds: each student is trained once per seed.
        precision: the precision in which students are exported, scored and timed.
        arguments: fields of `DistillationArguments` for all students.
        twins: whether to add controls: each student on the labels alone, for the same number of steps, and each recipe
            of several stages in its last stage alone, for as many steps as that has.
        baselines: whether to add logistic regressions: on words and characters, on static embeddings, and on the
            vectors of each teacher's encoder.
        add: folders of students made before, as by `distill` or `finetune`, to examine as they are; one of several
            tasks on the data sets that are named as its tasks.
        together: whether each student is also trained once on all data sets, a student of several tasks.
        tune: number of tries in a search of learning rate, dropout and sizes before the exam; 0 = no search.
        cost: how cost is measured.
    """

    data: tuple[DataPlan, ...] = Field(min_length=1)
    teacher: tuple[str, ...] = ()
    teachers: str = "mean"
    students: tuple[StudentPlan, ...] = Field(tuple(StudentPlan(architecture=name) for name in STUDENTS), min_length=1)
    recipes: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = Field(default=("teacher",), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    precision: Literal["int8", "fp32"] = "int8"
    arguments: dict[str, Any] = Field(default_factory=dict)
    twins: bool = True
    baselines: bool = True
    add: tuple[str, ...] = ()
    together: bool = False
    tune: int = Field(default=0, ge=0)
    cost: CostPlan = Field(default_factory=CostPlan)

    @property
    def datasets(self) -> list[DataPlan]:
        """The data sets, each with its teachers, and what these read."""
        most = max([MAX_LENGTH, *(student.max_length for student in self.students)])
        return [
            replace(
                entry,
                teacher=entry.teacher or self.teacher,
                teachers=entry.teachers or self.teachers,
                max_length=entry.max_length if entry.writes else entry.max_length or most,
            )
            for entry in self.data
        ]

    @property
    def writes(self) -> bool:
        """Whether its students write."""
        return any(entry.writes for entry in self.data)

    def completed(self, found: Mapping[str, dict[str, Any]]) -> "Plan":
        """The plan with more fields of each data set, by name."""
        return self.model_copy(update={"data": tuple(replace(entry, **found[entry.name]) for entry in self.data)})

    @model_validator(mode="before")
    @classmethod
    def _data_as_list(cls, value: Any) -> Any:
        value = with_lists(value)
        entries = value.get("data") if isinstance(value, dict) else None
        entries = entries if isinstance(entries, list | tuple) else ()
        if GENERATION in [one.get("task") if isinstance(one, dict) else getattr(one, "task", None) for one in entries]:
            students = value.get("students", [SMALLER])
            if isinstance(students, list):
                students = [{"architecture": SMALLER, **one} if isinstance(one, dict) else one for one in students]
            value = {**value, "students": students}
        return value

    _teachers_as_tuple = field_validator("teacher", mode="before")(as_tuple)
    _known_rule = field_validator("teachers")(known_rule)

    @field_validator("recipes", mode="before")
    @classmethod
    def _written_out(cls, value: Any) -> Any:
        """`{recipe: tinybert, mapping: top}` as `tinybert mapping=top`."""
        if not isinstance(value, list | tuple):
            return value
        return [
            " ".join(
                [str(part.get("recipe", "")), *(f"{k}={option_text(v)}" for k, v in part.items() if k != "recipe")]
            )
            if isinstance(part, dict)
            else part
            for part in value
        ]

    @field_validator("recipes")
    @classmethod
    def _known_recipes(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        writes = any(entry.writes for entry in info.data.get("data", ()))
        for text in value:
            try:
                (make_recipe if writes else make_stages)(*parse_recipe(text))
            except ModelError as error:
                raise ValueError(str(error).rstrip(".")) from None
        return value

    @field_validator("embeddings")
    @classmethod
    def _known_embeddings(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in VECTORS and not Path(name).is_file():
                raise ValueError(f"expected teacher, random or a file of word vectors, got {name!r}")
        names = [Path(name).name for name in value]
        if len(set(names)) < len(names):
            raise ValueError(f"two files of word vectors have the same name: {', '.join(sorted(names))}")
        return value

    @field_validator("arguments")
    @classmethod
    def _known_arguments(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            return known_arguments(value)
        except ModelError as error:
            raise ValueError(str(error).rstrip(".")) from None

    @field_validator("add")
    @classmethod
    def _students(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for folder in value:
            if not (Path(folder) / "config.json").is_file():
                raise ValueError(f"expected a folder that distill or finetune wrote, got {folder!r}")
        names = [Path(folder).resolve().name for folder in value]
        if len(set(names)) < len(names):
            raise ValueError(f"two folders have the same name: {', '.join(sorted(names))}")
        return value

    @field_validator("seeds")
    @classmethod
    def _are_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        for seed in value:
            try:
                check_seed(seed)
            except ModelError as error:
                raise ValueError(str(error).rstrip(".")) from None
        return value

    @field_validator("seeds", "recipes", "embeddings")
    @classmethod
    def _given_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = sorted({item for item in value if value.count(item) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(str, twice))} is given more than once")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "Plan":
        rules = {entry.teachers for entry in self.datasets} - {"mean"}
        if rules and all(len(entry.teacher) < 2 for entry in self.datasets):
            raise ValueError(f"teachers (--teachers) is {min(rules)}, a rule for several, and no data set has several")
        for part in ("data", "students"):
            names = [entry.name for entry in getattr(self, part)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {part} are named {', '.join(twice)}: give each its own name")
        own = {student.name for student in self.students}
        own |= {together_name(student) for student in self.students if self.together}
        if len(own) < len(self.students) * (1 + self.together):
            raise ValueError("a student is named like another that is trained together: give it another name")
        same = own & {Path(folder).resolve().name for folder in self.add}
        sets = {entry.name for entry in self.datasets}
        for folder in self.add:
            if (found := task_folders(folder)) and not sets & set(found):
                raise ValueError(
                    f"{folder} has the tasks {', '.join(found)}, but no data set is named so (--add): name it like one"
                )
        if self.together:
            self._check_together()
        if same:
            raise ValueError(f"{min(same)} is both a student and an added folder (--add): rename the folder")
        writers = [student.name for student in self.students if student.architecture in WRITERS]
        if self.writes:
            self._check_writing()
        elif writers:
            raise ValueError(f"{writers[0]} is for students that write: choose another, or data with task: generation")
        for student in self.students:
            reasons = [refusal(student, TWIN, embeddings) for embeddings in self.embeddings]
            if all(reasons):
                raise ValueError(f"student {student.name}: {reasons[0].rstrip('.')}")
        for recipe in self.recipes:
            if all(refusal(student, recipe) for student in self.students):
                raise ValueError(f"{recipe} supports none of the students {', '.join(s.name for s in self.students)}")
        for entry in self.datasets:
            for recipe in self.recipes if len(entry.teacher) > 1 else ():
                try:
                    with_recipe_of(entry.teachers, DistillSettings(recipe=parse_recipe(recipe)[0]))
                except ModelError as error:
                    raise ValueError(str(error).rstrip(".")) from None
            if entry.domains and (len(entry.teacher) > 1 or entry.zero_shot):
                raise ValueError(f"data set {entry.name} has domains: its teacher is one encoder, fine-tuned on them")
            if not entry.teacher:
                raise ValueError(f"data set {entry.name} has no teacher: set one for it or for the plan")
        return self

    def _check_together(self) -> None:
        """Raise ValueError for what a student of several tasks does not take."""
        if self.tune:
            raise ValueError("together is for plans without tune: leave one out")
        names = [entry.name for entry in self.datasets]
        if len(names) < 2 or not all(map(NAME.fullmatch, names)):
            raise ValueError(
                "together needs several data sets, each named like a task: a letter, then letters, digits, - or _; got "
                f"{', '.join(names)}"
            )
        for entry in self.datasets:
            several = "several teachers" * (len(entry.teacher) > 1) or "unlabeled" * bool(entry.unlabeled)
            if several:
                raise ValueError(f"together is for data sets without {several}: leave it out ({entry.name})")
        each = product(self.students, self.recipes or ("",), self.embeddings)
        reasons = [next(filter(None, (refusal_together(*one, entry) for entry in self.datasets)), "") for one in each]
        if all(reasons):
            raise ValueError(f"together: {reasons[0].rstrip('.')}")

    def _check_writing(self) -> None:
        """Raise ValueError for what students that write do not take."""
        if not all(entry.writes for entry in self.data):
            raise ValueError("students that write (task: generation) need a plan of their own, without other data sets")
        for entry in self.datasets:
            usual = DataPlan(source=entry.source, augment=entry.augment or ())
            own = {"source", "name", "teacher", "teachers", "text", "label", "task", "augment"}
            wrong = [field.name for field in fields(entry) if getattr(entry, field.name) != getattr(usual, field.name)]
            wrong = [name for name in wrong if name not in own] + ["augment"] * bool(entry.augment)
            wrong += (
                ["tune"] * bool(self.tune)
                + ["together"] * self.together
                + ["embeddings"] * (self.embeddings != ("teacher",))
            )
            if wrong:
                raise ValueError(f"{wrong[0]} is set, but students that write do not take it: leave it out")
            if len(entry.teacher) > 1:
                raise ValueError(f"students that write have one teacher, got {', '.join(entry.teacher)}")
        for student in self.students:
            if student.architecture not in WRITERS:
                raise ValueError(f"{student.name} does not write: choose {' or '.join(WRITERS)}")
            try:
                check_settings(DistillSettings(student.settings("teacher")))
            except ModelError as error:
                raise ValueError(f"{student.name}: {str(error).rstrip('.')}") from None
