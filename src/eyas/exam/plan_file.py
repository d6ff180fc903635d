"""Plans as YAML files, with errors that name file, line and key."""

import json
import os
from dataclasses import fields
from glob import glob
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from eyas.data.files import open_binary
from eyas.errors import DataError
from eyas.exam.plan import CostPlan, Plan, with_lists
from eyas.exam.plan_parts import DataPlan, StudentPlan
from eyas.settings import VECTORS

# The key of YAML that takes over another mapping's; it may occur more than once.
MERGE = "tag:yaml.org,2002:merge"
LISTS = (str, list, tuple)


def read_plan(path: Path) -> Plan:
    """Read a YAML plan; its paths are relative to its folder.

    Raises:
        DataError: the plan is invalid; the message names file and line.
    """
    try:
        with open_binary(path) as file:
            text = file.read().decode()
        content, tree = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise DataError(f"The plan {path} is not UTF-8 (byte {error.start + 1}). Save it as UTF-8.") from None
    except OSError as error:
        raise DataError(f"Cannot read the plan {path}: {error.strerror}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise DataError(f"{path}{line}: invalid YAML: {getattr(error, 'problem', error)}.") from None
    except (ValueError, RecursionError) as error:  # a date that does not exist, thousands of brackets
        raise DataError(f"{path}: invalid YAML: {error}.") from None
    _refuse_repeated(path, tree, set())
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a plan (data, teacher, students ...), got {type(content).__name__}.")
    try:
        return Plan.model_validate(_with_paths_from(path.parent, with_lists(content)))
    except ValidationError as error:
        raise DataError("\n".join(_explain(path, tree, problem) for problem in _problems(error))) from None
    except RecursionError:
        raise DataError(f"{path}: invalid YAML: a part holds itself (&, *).") from None


def make_plan(**settings: Any) -> Plan:
    """Create a `Plan` from keyword arguments.

    Raises:
        DataError: a value is invalid.
    """
    try:
        return Plan.model_validate(_with_paths_from(Path.cwd(), with_lists(settings)))
    except ValidationError as error:
        raise DataError("\n".join(_explain(None, None, problem) for problem in _problems(error))) from None


def _refuse_repeated(path: Path, node: Any, known: set[int]) -> None:
    """Raises DataError for a key that is given twice: YAML would drop the first.

    Args:
        known: the nodes that were visited; aliases lead to a node again.
    """
    if id(node) in known:
        return
    known.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _refuse_repeated(path, part, known)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, value in node.value:
            line, name = int(key.start_mark.line) + 1, (key.tag, str(key.value))
            if name in seen and key.tag != MERGE:
                raise DataError(
                    f"{path}:{line}: {key.value} is given twice, first in line {seen[name]}. Give it once, "
                    "several values as a list."
                )
            seen[name] = line
            _refuse_repeated(path, value, known)


def _problems(error: ValidationError) -> list[Any]:
    """The problems of a plan, without those that follow from another: a list without its only, wrong entry is empty."""
    found = error.errors()
    inner = [problem["loc"] for problem in found]
    return [
        problem
        for problem in found
        if problem["type"] != "too_short"
        or not any(loc[: len(problem["loc"])] == problem["loc"] and loc != problem["loc"] for loc in inner)
    ]


def _explain(path: Path | None, tree: Any, problem: Any) -> str:
    places = [str(part) for part in problem["loc"]]
    what = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        parts = {"data": _names(DataPlan), "students": _names(StudentPlan), "cost": list(CostPlan.model_fields)}
        known = list(Plan.model_fields) if len(places) == 1 else parts[places[0]]
        what = f"unknown key, expected one of {', '.join(known)}"
    if problem["type"] == "tuple_type":
        what = f"expected a list, got {problem['input']!r:.60}"
    line = f"{path}:{_line(tree, problem['loc'])}: " if path else ""
    return f"{line}{'.'.join(places) or 'plan'}: {what}."


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def _line(node: Any, location: tuple[Any, ...]) -> int:
    """Line of the innermost YAML node on the path `location`."""
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
    """Resolve paths that exist relative to the plan's folder; the others may be names on the Hub."""

    def moved(value: Any) -> Any:
        path = folder / value if isinstance(value, str) else None
        there = path is not None and bool(value) and (os.path.exists(path) or bool(glob(str(path), recursive=True)))
        return str(path.resolve()) if path is not None and there else value

    def moved_source(value: Any) -> Any:
        """Resolve SOURCE in METHOD:COUNT:SOURCE."""
        parts = value.split(":", 2) if isinstance(value, str) else []
        return ":".join([*parts[:2], moved(parts[2])]) if len(parts) == 3 else value

    def moved_data(entry: Any) -> Any:
        if not isinstance(entry, dict):
            return moved(entry)
        paths = {key: moved(entry[key]) for key in ("source", "encoder", "smoothing") if key in entry}
        for key, move in (
            ("teacher", moved),
            ("unlabeled", moved),
            ("augment", moved_source),
            ("select", moved_source),
        ):
            if isinstance(entry.get(key), LISTS):
                listed = [entry[key]] if isinstance(entry[key], str) else entry[key]
                paths[key] = [] if list(listed) == ["none"] else [move(part) for part in listed]
        if isinstance(entry.get("domains"), dict):
            paths["domains"] = {name: moved(source) for name, source in entry["domains"].items()}
        return {**entry, **paths}

    result = dict(content)
    if isinstance(result.get("teacher"), LISTS):
        named = result["teacher"]
        result["teacher"] = [moved(part) for part in ([named] if isinstance(named, str) else named)]
    if isinstance(result.get("embeddings"), list | tuple):
        result["embeddings"] = [n if n in VECTORS else moved(n) for n in result["embeddings"]]
    if isinstance(result.get("students"), list | tuple):
        result["students"] = [
            {**student, "init": moved(student["init"])}
            if isinstance(student, dict) and student.get("init")
            else student
            for student in result["students"]
        ]
    if isinstance(result.get("add"), list | tuple):
        result["add"] = [moved(student) for student in result["add"]]
    if isinstance(result.get("data"), list | tuple):
        result["data"] = [moved_data(entry) for entry in result["data"]]
    return result


def to_yaml(plan: Plan) -> str:
    """The plan as YAML, as `read_plan` reads it."""
    return str(yaml.safe_dump(json.loads(plan.model_dump_json(exclude_defaults=True)), sort_keys=False))
