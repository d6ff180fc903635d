"""What an exam examines: data sets x students x recipes x embeddings x seeds."""

import difflib
import json
from dataclasses import fields
from glob import glob
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from understudy.data.sources import Columns
from understudy.errors import DataError, ModelError
from understudy.models import STUDENTS
from understudy.models.transformer import TRANSFORMERS
from understudy.tasks import KINDS
from understudy.training.arguments import DistillationArguments
from understudy.training.recipes import RECIPES, make_stages, parse_recipe
from understudy.transfer import TransferSettings

# Where word vectors come from, besides files.
VECTORS = ("teacher", "random")
# A run's own: set by the exam.
RESERVED = ("output_dir", "seed", "data_seed")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataPlan(_Strict):
    """A data set and its teacher.

    Args:
        source: as for `load_data`.
        name: how it is called on the page; by default the last part of `source`.
        teacher: a fine-tuned classifier; by default the plan's.
        text, text_pair, label: columns, where they do not follow the conventions.
        task: one of `understudy.tasks.KINDS`, where the columns do not tell.
        repair_tags: turn an I- tag that continues nothing into B-.
        unlabelled: more texts for the teacher to label, as for `load_unlabelled`.
        most_unlabelled, augment, select, mixup, smoothing: which of them, and what is made of the training texts;
            see `TransferSettings`.
        label_map: {teacher's label name: data's}, where they can't be matched otherwise.
    """

    source: str
    name: str = ""
    teacher: str = ""
    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    task: str | None = None
    repair_tags: bool = False
    unlabelled: tuple[str, ...] = ()
    most_unlabelled: int | None = Field(default=None, ge=1)
    augment: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    mixup: float = Field(default=0.0, ge=0)
    smoothing: str = ""
    label_map: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @property
    def columns(self) -> Columns:
        return Columns(self.text, self.text_pair, self.label, self.task, self.repair_tags)

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str | None) -> str | None:
        if value not in (None, *KINDS):
            raise ValueError(f"no task {value!r}, expected one of {', '.join(KINDS)}")
        return value

    @field_validator("unlabelled", "augment", "select", mode="before")
    @classmethod
    def _one_of_them(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def transfer(self) -> TransferSettings:
        return TransferSettings(self.augment, self.select, self.most_unlabelled, self.mixup, self.smoothing)

    @model_validator(mode="after")
    def _named(self) -> "DataPlan":
        try:
            self.transfer.check()
        except DataError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if not self.name:
            object.__setattr__(self, "name", Path(self.source).stem)
        return self


class StudentPlan(_Strict):
    """An architecture and its sizes; None = the architecture's default. See `StudentSettings`."""

    architecture: str
    name: str = ""
    embedding_size: int | None = Field(default=None, ge=1)
    hidden_size: int | None = Field(default=None, ge=1)
    vocab_size: int | None = Field(default=None, ge=1)
    freeze_embeddings: bool = False
    dropout: float | None = Field(default=None, ge=0, lt=1)
    max_length: int = Field(default=256, ge=2)
    char_embedding_size: int = Field(default=0, ge=0)
    crf: bool = False
    layers: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    feed_forward: int | None = Field(default=None, ge=1)
    start: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"architecture": value} if isinstance(value, str) else value

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        known = (*STUDENTS, *TRANSFORMERS)
        if value not in known:
            raise ValueError(f"no student {value!r}, expected one of {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _named(self) -> "StudentPlan":
        sizes = [("e", self.embedding_size), ("h", self.hidden_size), ("v", self.vocab_size), ("l", self.layers)]
        sizes += [("a", self.heads), ("f", self.feed_forward)]
        marks = [f"{letter}{size}" for letter, size in sizes if size] + ["frozen"] * self.freeze_embeddings
        marks += [self.start] if self.start else []
        marks += [f"c{self.char_embedding_size}"] * bool(self.char_embedding_size) + ["crf"] * self.crf
        if not self.name:
            object.__setattr__(self, "name", "-".join([self.architecture, *marks]))
        return self


class CostPlan(_Strict):
    """How cost is measured: on `texts` validation texts, `rounds` times, with `threads` threads."""

    texts: int = Field(default=200, ge=10, le=1000)
    rounds: int = Field(default=3, ge=1)
    threads: int = Field(default=1, ge=1)


class Plan(_Strict):
    """An exam.

    Args:
        data: data sets; a path, a `DataPlan`, or a list of them.
        teacher: for data sets that name none.
        students: architectures, with sizes.
        recipes: methods, keys of `RECIPES`; with options `tinybert mapping=top`, or `{recipe: tinybert, mapping: top}`.
        embeddings: where word vectors come from: "teacher", "random", files of vectors.
        seeds: each student is trained once with each.
        precision: what students are exported, scored and timed in.
        arguments: fields of `DistillationArguments` for all students.
        twins: whether each student also learns from the labels alone, for as many steps.
        baselines: whether tf-idf and static embeddings, each with a logistic regression, sit in.
        tune: trials of a search of learning rate, dropout and sizes before the exam; 0 = none.
        cost: how cost is measured.
    """

    data: tuple[DataPlan, ...] = Field(min_length=1)
    teacher: str = ""
    students: tuple[StudentPlan, ...] = Field(tuple(STUDENTS), min_length=1, validate_default=True)
    recipes: tuple[str, ...] = Field(default=("logit-mse",), min_length=1)
    embeddings: tuple[str, ...] = Field(default=("teacher",), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    precision: Literal["int8", "fp32"] = "int8"
    arguments: dict[str, Any] = Field(default_factory=dict)
    twins: bool = True
    baselines: bool = True
    tune: int = Field(default=0, ge=0)
    cost: CostPlan = Field(default_factory=CostPlan)

    @model_validator(mode="before")
    @classmethod
    def _data_as_list(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("data"), str | dict):
            return {**value, "data": [value["data"]]}
        return value

    @field_validator("recipes", mode="before")
    @classmethod
    def _written_out(cls, value: Any) -> Any:
        """`{recipe: tinybert, mapping: top}` as `tinybert mapping=top`."""
        if not isinstance(value, list | tuple):
            return value
        return [
            " ".join([str(part.get("recipe")), *(f"{k}={v}" for k, v in part.items() if k != "recipe")])
            if isinstance(part, dict)
            else part
            for part in value
        ]

    @field_validator("recipes")
    @classmethod
    def _known_recipes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            name, options = parse_recipe(text)
            if name not in RECIPES:
                raise ValueError(f"no recipe {name!r}, expected one of {', '.join(RECIPES)}")
            try:
                make_stages(name, options)
            except ModelError as error:
                raise ValueError(str(error).rstrip(".")) from None
        return value

    @field_validator("embeddings")
    @classmethod
    def _known_embeddings(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in VECTORS and not Path(name).is_file():
                raise ValueError(f"no word vectors {name!r}: expected teacher, random or a file")
        names = [Path(name).name for name in value]
        if len(set(names)) < len(names):
            raise ValueError(f"two files of word vectors have the same name: {', '.join(sorted(names))}")
        return value

    @field_validator("arguments")
    @classmethod
    def _known_arguments(cls, value: dict[str, Any]) -> dict[str, Any]:
        known = {field.name for field in fields(DistillationArguments) if field.init} - {*RESERVED}
        for name in value:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"; do you mean {close[0]}?" if close else ""
                raise ValueError(f"no training argument {name!r}{hint}")
        return {name: _number(entry) for name, entry in value.items()}

    @field_validator("seeds", "recipes", "embeddings")
    @classmethod
    def _given_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = sorted({item for item in value if value.count(item) > 1})
        if twice:
            raise ValueError(f"{', '.join(map(str, twice))} is given twice")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "Plan":
        for part in ("data", "students"):
            names = [entry.name for entry in getattr(self, part)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {part} are called {', '.join(twice)}: give them names")
        for entry in self.data:
            if not (entry.teacher or self.teacher):
                raise ValueError(f"data set {entry.name} has no teacher: name one for it, or for the plan")
        return self


def read_plan(path: Path) -> Plan:
    """Read a YAML plan; relative paths in it start at its folder.

    Raises:
        DataError: naming the file and the line of what is wrong.
    """
    try:
        text = path.read_text()
        content, tree = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except OSError as error:
        raise DataError(f"No plan {path}: {error.strerror}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise DataError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a plan (data, teacher, students ...), got {type(content).__name__}.")
    try:
        return Plan.model_validate(_with_paths_from(path.parent, content))
    except ValidationError as error:
        raise DataError("\n".join(_explain(path, tree, problem) for problem in error.errors())) from None


def make_plan(**settings: Any) -> Plan:
    """A `Plan` from keyword arguments; raises DataError in words."""
    try:
        return Plan.model_validate(settings)
    except ValidationError as error:
        raise DataError("\n".join(_explain(None, None, problem) for problem in error.errors())) from None


def _explain(path: Path | None, tree: Any, problem: Any) -> str:
    places = [str(part) for part in problem["loc"]]
    what = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {"data": DataPlan, "students": StudentPlan, "cost": CostPlan}
        known = (Plan if len(places) == 1 else parts.get(places[0], Plan)).model_fields
        what = f"unknown key, expected one of {', '.join(known)}"
    line = f"{path}:{_line(tree, problem['loc'])}: " if path else ""
    return f"{line}{'.'.join(places) or 'plan'}: {what}."


def _line(node: Any, location: tuple[Any, ...]) -> int:
    """The line of the innermost node on the way to `location`."""
    line = int(node.start_mark.line) + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                continue  # `data` given as a single entry has no index
            line, node = int(pair[0].start_mark.line) + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = int(node.start_mark.line) + 1
    return line


def _with_paths_from(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Paths that exist seen from the plan's folder are taken from there; others may be names on the Hub."""

    def moved(value: Any) -> Any:
        path = folder / value if isinstance(value, str) else None
        there = path is not None and bool(value) and (path.exists() or bool(glob(str(path), recursive=True)))
        return str(path.resolve()) if path is not None and there else value

    def moved_source(value: Any) -> Any:
        """The third part of METHOD:COUNT:SOURCE."""
        parts = value.split(":", 2) if isinstance(value, str) else []
        return ":".join([*parts[:2], moved(parts[2])]) if len(parts) == 3 else value

    def moved_data(entry: Any) -> Any:
        if not isinstance(entry, dict):
            return moved(entry)
        paths = {key: moved(entry[key]) for key in ("source", "teacher", "smoothing") if key in entry}
        for key, move in (("unlabelled", moved), ("augment", moved_source), ("select", moved_source)):
            if entry.get(key):
                paths[key] = [move(part) for part in ([entry[key]] if isinstance(entry[key], str) else entry[key])]
        return {**entry, **paths}

    result = dict(content)
    if "teacher" in result:
        result["teacher"] = moved(result["teacher"])
    if isinstance(result.get("embeddings"), list):
        result["embeddings"] = [n if n in VECTORS else moved(n) for n in result["embeddings"]]
    data = result.get("data")
    if isinstance(data, list):
        result["data"] = [moved_data(entry) for entry in data]
    elif data is not None:
        result["data"] = moved_data(data)
    return result


def _number(value: Any) -> Any:
    """YAML reads 5e-4 as a string: a number all the same."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def to_yaml(plan: Plan) -> str:
    """The plan as a file that `read_plan` reads."""
    return str(yaml.safe_dump(json.loads(plan.model_dump_json(exclude_defaults=True)), sort_keys=False))
