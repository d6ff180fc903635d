"""Published methods, as functions that return the stages of a training."""

import importlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from eyas.errors import ModelError
from eyas.losses import DiversityLoss, LearnedWeights, Loss, MutualLoss
from eyas.losses.layer_mapping import MAPPINGS, layer_mapping
from eyas.losses.schedules import Schedule, named
from eyas.tasks import Task
from eyas.training.recipes import layers, logits
from eyas.training.recipes.base import Stage
from eyas.training.recipes.layers import ATTENTION_LOSSES, HIDDEN_LOSSES
from eyas.training.recipes.logits import LOGIT_LOSSES

Recipe = Callable[..., list[Stage]]


def _recipes_in(module: ModuleType) -> dict[str, Recipe]:
    """Its public functions that return stages, by their names with hyphens."""
    functions = [value for value in vars(module).values() if inspect.isfunction(value)]
    own = [function for function in functions if function.__module__ == module.__name__]
    recipes = [function for function in own if inspect.signature(function).return_annotation == list[Stage]]
    return {function.__name__.replace("_", "-"): function for function in recipes if function.__name__[0] != "_"}


RECIPES: dict[str, Recipe] = {**_recipes_in(logits), **_recipes_in(layers)}
"""The methods by name: functions of their options that make the stages of a training."""


# A step of each recipe in steps of hard-labels: what benchmarks/recipe_cost.py measured.
COSTS = Path(__file__).parent / "costs.json"
# Options that count something.
WHOLE = ("heads", "highest", "dimensions")
# Options that name something.
CHOICES: dict[str, Collection[str]] = {
    "weights": ("fixed", "learned"),
    "mapping": MAPPINGS,
    "loss": LOGIT_LOSSES,
    "prediction": LOGIT_LOSSES,
    "hidden": HIDDEN_LOSSES,
    "attention": ATTENTION_LOSSES,
}
# Options of every recipe, and what they are where nobody says.
COMMON: dict[str, Any] = {"weights": "fixed", "mutual": 0.0, "diversity": 0.0}


def default_recipe(task: Task, crf: bool = False) -> str:
    """What suits a task where nobody says.

    Where there are more than two things to choose from, raw logits are learned slowly, and correlation with the teacher
    is better: see docs/benchmarks.md. Of two the correlation is always 1 or -1; and a CRF's logits are matched by a
    divergence, which is better still.
    """
    return "dist" if any(len(group) > 2 for group in task.groups) and not crf else "logit-mse"


def make_stages(recipe: str | Recipe, options: dict[str, Any] | None = None) -> list[Stage]:
    """The stages of a recipe.

    Args:
        recipe: a key of `RECIPES`, a function that returns stages, or where one is: "package.module:function".
        options: arguments of the recipe's function; temperatures and weights may be schedules, such as "linear:8:1"
            (see `eyas.losses.schedules.named`), mappings pairs of layers, such as "1-3,2-6". And for any recipe:
            `weights="learned"`, weights of a stage's terms that are learned; `mutual` and `diversity`, weights of what
            an ensemble's members learn from each other and of how much they should differ.

    Raises:
        ModelError: no such recipe, or it has no such option.
    """
    function, name = find_recipe(recipe), recipe_name(recipe)
    known = inspect.signature(function).parameters
    options = dict(options or {})
    unknown = sorted(options.keys() - known.keys() - COMMON.keys())
    if unknown:
        raise ModelError(f"The recipe {name} has no option {unknown[0]!r}. It has {', '.join([*known, *COMMON])}.")
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
    _check_shares(name, stages)
    if common["weights"] == "learned" and all(len(stage.losses) == 1 for stage in stages):
        raise ModelError(f"The recipe {name} has one term at a time: there are no weights to learn. Leave weights out.")
    return [_with_common(stage, **common) for stage in stages]


def find_recipe(recipe: str | Recipe) -> Recipe:
    """The function of that name; raises ModelError where there is none."""
    if callable(recipe):
        return recipe
    if recipe in RECIPES:
        return RECIPES[recipe]
    module, colon, function = recipe.partition(":")
    if not colon:
        raise ModelError(
            f"No recipe {recipe!r}. Expected one of {', '.join(RECIPES)}, or your own as package.module:function."
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"No recipe {recipe!r}: {error}. Expected package.module:function.") from error
    if not callable(found):
        raise ModelError(f"{recipe} is no function, expected one that returns stages.")
    return found  # type: ignore[no-any-return]


def recipe_name(recipe: str | Recipe) -> str:
    """What a recipe is called in files and messages."""
    return recipe if isinstance(recipe, str) else f"{recipe.__module__}:{recipe.__qualname__}"


def _check_shares(name: str, stages: Sequence[Stage]) -> None:
    shares = [stage.share for stage in stages if stage.share is not None]
    whole = sum(shares) if len(shares) == len(stages) else 1.0
    if not stages or not math.isclose(whole, 1.0) or sum(shares) > 1.0 + 1e-9:
        raise ModelError(f"The recipe {name} has {len(stages)} stages with the shares {shares}, expected a sum of 1.")


def _may_change(option: str) -> bool:
    """Whether it may follow a schedule."""
    return option in ("temperature", "mutual", "diversity") or option.endswith("weight")


def _check_option(recipe: str, option: str, value: Any, default: Any) -> None:
    """Raises ModelError for a value that can't be meant."""
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
    elif option == "teacher_layer":  # its range is the teacher's
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
        raise ModelError(f"{said} no number below 0.")


def _without_idle(stage: Stage) -> Stage:
    """What counts nothing is not computed."""
    losses = [loss for loss in stage.losses if loss.weight != 0]
    if not losses:
        raise ModelError("All terms of a stage have the weight 0: there is nothing to learn. Give one of them more.")
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
    """What a step of each recipe costs, in steps of hard-labels, with a student of two of the teacher's six layers."""
    costs: dict[str, float] = json.loads(COSTS.read_text())
    return costs


def parse_recipe(text: str) -> tuple[str, dict[str, Any]]:
    """`NAME` or `NAME OPTION=VALUE ...`, such as `tinybert mapping=top attention_weight=0.1`: (name, options)."""
    name, *given = text.split()
    options = {}
    for part in given:
        key, found, value = part.partition("=")
        if not found:
            raise ModelError(f"Recipe {text!r}: {part!r}, expected OPTION=VALUE.")
        options[key] = _number(value)
    return name, options


def option_text(value: Any) -> str:
    """As options are written; pairs of layers, [[1, 3], [2, 6]], as 1-3,2-6."""
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
