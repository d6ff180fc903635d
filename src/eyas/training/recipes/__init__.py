"""Published methods, as functions that return training stages."""

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from eyas.compression import LARGEST, TERNARY, Compress
from eyas.errors import ModelError
from eyas.losses import DiversityLoss, LearnedWeights, Loss, MutualLoss
from eyas.losses.layer_mapping import MAPPINGS, layer_mapping
from eyas.losses.schedules import Schedule, named
from eyas.tasks import Task
from eyas.training.recipes import compression, layers, logits
from eyas.training.recipes.base import Stage, compressed_by
from eyas.training.recipes.layers import ATTENTION_LOSSES, HIDDEN_LOSSES
from eyas.training.recipes.logits import LOGIT_LOSSES

Recipe = Callable[..., list[Stage]]


def _recipes_in(module: ModuleType) -> dict[str, Recipe]:
    """The module's public functions that return stages, by hyphenated name."""
    functions = [value for value in vars(module).values() if inspect.isfunction(value)]
    own = [function for function in functions if function.__module__ == module.__name__]
    recipes = [function for function in own if inspect.signature(function).return_annotation == list[Stage]]
    return {function.__name__.replace("_", "-"): function for function in recipes if function.__name__[0] != "_"}


RECIPES: dict[str, Recipe] = {**_recipes_in(logits), **_recipes_in(layers), **_recipes_in(compression)}
"""Recipes by name: functions that turn their options into training stages."""


# Cost of a step of each recipe, relative to hard-labels; measured by benchmarks/recipe_cost.py.
COSTS = Path(__file__).parent / "costs.json"
# Options that are positive integers.
WHOLE = ("heads", "highest", "dimensions", "rounds")
# Options with a fixed set of values.
CHOICES: dict[str, Collection[str]] = {
    "stages": ("all", "last"),
    "weights": ("fixed", "learned"),
    "mapping": MAPPINGS,
    "loss": LOGIT_LOSSES,
    "prediction": LOGIT_LOSSES,
    "hidden": HIDDEN_LOSSES,
    "attention": ATTENTION_LOSSES,
    "pooling": ("first", "mean"),
    "reduction": ("mean", "authors"),
    "layers": ("each", "joined"),
    "bits": tuple(LARGEST),
    "scales": tuple(TERNARY),
}
# Options of every recipe, with their defaults.
COMMON: dict[str, Any] = {"stages": "all", "weights": "fixed", "mutual": 0.0, "diversity": 0.0}


def default_recipe(task: Task, crf: bool = False) -> str:
    """The default recipe of a task.

    With more than two classes, raw logits are learned slowly, and correlation with the teacher works better: see
    docs/benchmarks.md. With two classes the correlation is always 1 or -1. A CRF's logits are matched by a divergence,
    which works better still.
    """
    return "dist" if any(len(group) > 2 for group in task.groups) and not crf else "logit-mse"


def make_stages(recipe: str | Recipe, options: dict[str, Any] | None = None) -> list[Stage]:
    """The stages of a recipe.

    Args:
        recipe: a key of `RECIPES`, a function that returns stages, or the path of one: "package.module:function".
        options: arguments of the recipe's function. Temperatures and weights may be schedules, such as "linear:8:1"
            (see `eyas.losses.schedules.named`); mappings may be pairs of layers, such as "1-3,2-6". Every recipe also
            takes `stages="last"`, which leaves out all stages but the last, at its length: the control of the others;
            `weights="learned"`, which learns the weights of a stage's terms; and for ensembles `mutual` and
            `diversity`, the weights of `MutualLoss` and `DiversityLoss`.

    Raises:
        ModelError: unknown recipe, unknown option or invalid value.
    """
    function, name = find_recipe(recipe), recipe_name(recipe)
    known = inspect.signature(function).parameters
    options = dict(options or {})
    unknown = sorted(options.keys() - known.keys() - COMMON.keys())
    if unknown:
        raise ModelError(
            f"The recipe {name} has no option {unknown[0]!r}. Expected one of {', '.join([*known, *COMMON])}."
        )
    defaults = {**COMMON, **{option: parameter.default for option, parameter in known.items()}}
    for option, value in options.items():
        if isinstance(value, str) and ":" in value and _may_change(option):
            options[option], values = named(value)
        else:
            values = [value]
        if name in RECIPES or option in COMMON:
            for one in values:
                _check_option(name, option, one, defaults[option])
    common = {option: options.pop(option, default) for option, default in COMMON.items()}
    stages = [_without_idle(stage) for stage in function(**options)]
    stages = with_shares(name, stages)
    if common["weights"] == "learned" and all(len(stage.losses) == 1 for stage in stages):
        raise ModelError(
            f"weights=learned needs a stage with several losses, but {name} has one loss per stage. Leave weights out."
        )
    if common.pop("stages") == "last":
        if len(stages) == 1:
            raise ModelError(f"stages=last needs several stages, but {name} has one. Leave stages out.")
        methods = compressed_by(stages)  # the last stage trains a model as small as it is after all of them
        stages = [replace(stages[-1], before=Compress(methods) if methods else stages[-1].before)]
    return [_with_common(stage, **common) for stage in stages]


def find_recipe(recipe: str | Recipe) -> Recipe:
    """The recipe function of that name; raises ModelError if there is none."""
    if callable(recipe):
        return recipe
    if recipe in RECIPES:
        return RECIPES[recipe]
    module, colon, function = recipe.partition(":")
    if not colon:
        raise ModelError(
            f"Unknown recipe {recipe!r}. Expected one of {', '.join(RECIPES)}, or your own as package.module:function."
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"Cannot load the recipe {recipe!r}: {error}. Expected package.module:function.") from error
    if not callable(found):
        raise ModelError(f"{recipe} is not a function. Expected one that returns stages.")
    return found  # type: ignore[no-any-return]


def recipe_name(recipe: str | Recipe) -> str:
    """The recipe's name in files and messages."""
    return recipe if isinstance(recipe, str) else f"{recipe.__module__}:{recipe.__qualname__}"


def recipe_source(recipe: str | Recipe | None) -> dict[str, str]:
    """A hash of the code of a recipe that is a function, and of what its file defines: with other code, it is another.

    Empty for ours.
    """
    if isinstance(recipe, str) and ":" in recipe:
        recipe = find_recipe(recipe)
    if recipe is None or isinstance(recipe, str):
        return {}
    module = inspect.getmodule(recipe)
    beside = {} if module is None else vars(module)
    defined = [one for one in beside.values() if getattr(one, "__module__", None) == recipe.__module__]
    parts = [recipe, *(one for one in defined if inspect.isclass(one) or inspect.isfunction(one))]
    sources = [_source_of(one) for one in parts]
    if not sources[0]:  # not from a file
        return {}
    code = hashlib.sha256("".join(sources).encode())
    for name in sorted(_names_in(parts) & beside.keys()):
        with suppress(TypeError, ValueError):  # other values have no form that is the same in each process
            code.update(f"{name}={json.dumps(beside[name], sort_keys=True)}".encode())
    return {"recipe_source": code.hexdigest()}


def _source_of(part: Any) -> str:
    """Its source code; empty if it has none, such as a named tuple's."""
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):
        return ""


def _names_in(parts: Sequence[Any]) -> set[str]:
    """The names of globals and attributes that functions, and the methods of classes, read."""
    own = (method for one in parts for method in (vars(one).values() if inspect.isclass(one) else [one]))
    waiting = [one.__code__ for one in own if inspect.isfunction(one)]
    found: set[str] = set()
    while waiting:
        code = waiting.pop()
        found.update(code.co_names)
        waiting += [part for part in code.co_consts if inspect.iscode(part)]
    return found


def with_shares(name: str, stages: Sequence[Stage]) -> list[Stage]:
    """The stages with their shares of given steps or epochs, in proportion to their lengths.

    Raises:
        ModelError: there are none, or a length is not above 0.
    """
    if not stages:
        raise ModelError(f"The recipe {name} has no stages, expected at least one.")
    lengths = [stage.length for stage in stages]
    if not all(length > 0 for length in lengths):
        raise ModelError(f"The recipe {name} has stages of the lengths {lengths}, expected numbers above 0.")
    return [replace(stage, share=stage.length / sum(lengths)) for stage in stages]


def _may_change(option: str) -> bool:
    """Whether the option may be a schedule."""
    return option in ("temperature", "mutual", "diversity") or option.endswith("weight")


def _check_option(recipe: str, option: str, value: Any, default: Any) -> None:
    """Raises ModelError if the value has the wrong type or range."""
    said = f"The recipe {recipe}: {option}={value!r}, expected"
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    is_number = is_whole or isinstance(value, float)
    if option == "mapping":
        layer_mapping(value)
    elif option in CHOICES:
        if not isinstance(value, str) or value not in CHOICES[option]:
            raise ModelError(f"{said} one of {', '.join(CHOICES[option])}.")
    elif value is None and default is None:
        pass
    elif option == "teacher_layer":  # the teacher decides its range
        if not is_whole:
            raise ModelError(f"{said} a whole number.")
    elif option in WHOLE:
        if not is_whole or value < 1:
            raise ModelError(f"{said} a whole number above 0.")
    elif option == "temperature":
        if not is_number or not value > 0:
            raise ModelError(f"{said} a number above 0, or a schedule such as linear:8:1.")
    elif isinstance(default, int | float) and not is_number:
        raise ModelError(f"{said} a number{', or a schedule such as linear:1:0' if _may_change(option) else ''}.")
    elif is_number and not value >= 0:
        raise ModelError(f"{said} a number of at least 0.")


def _without_idle(stage: Stage) -> Stage:
    """Drop losses of weight 0, so that they are not computed."""
    losses = [loss for loss in stage.losses if loss.weight != 0]
    if not losses:
        raise ModelError(
            "All losses of a stage have weight 0, so there is nothing to learn. Raise one of them above 0."
        )
    return replace(stage, losses=losses)


def _with_common(stage: Stage, weights: str, mutual: float | Schedule, diversity: float | Schedule) -> Stage:
    losses: list[Loss] = list(stage.losses)
    if weights == "learned" and len(losses) > 1:
        losses = [LearnedWeights(losses)]
    if mutual:
        losses.append(MutualLoss(weight=mutual))
    if diversity:
        losses.append(DiversityLoss(weight=diversity))
    return replace(stage, losses=losses)


def measured_costs() -> dict[str, float]:
    """The cost of a step of each recipe relative to hard-labels, for a student with two of the teacher's six layers."""
    costs: dict[str, float] = json.loads(COSTS.read_text())
    return costs


def parse_recipe(text: str) -> tuple[str, dict[str, Any]]:
    """`NAME` or `NAME OPTION=VALUE ...`, such as `tinybert mapping=top attention_weight=0.1`: (name, options)."""
    if not text.strip():
        raise ModelError("A recipe is empty, expected NAME or NAME OPTION=VALUE.")
    name, *given = text.split()
    options = {}
    for part in given:
        key, found, value = part.partition("=")
        if not found:
            raise ModelError(f"Recipe {text!r}: {part!r}, expected OPTION=VALUE.")
        options[key] = _number(value)
    return name, options


def option_text(value: Any) -> str:
    """An option's value as text; pairs of layers, [[1, 3], [2, 6]], become 1-3,2-6."""
    if isinstance(value, list | tuple):
        return ",".join("-".join(map(str, part)) if isinstance(part, list | tuple) else str(part) for part in value)
    return str(value)


def _number(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


__all__ = [
    "RECIPES",
    "Stage",
    "default_recipe",
    "find_recipe",
    "make_stages",
    "option_text",
    "parse_recipe",
    "recipe_name",
]
