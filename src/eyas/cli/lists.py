"""encoders, recipes: list what there is to choose from."""

from typing import Annotated, Any

import typer

from eyas.outputs import strict_json


def encoders(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the pretrained encoders on this machine, for --model: installed packages and the cache of the Hub."""
    from eyas.encoders import encoders as find
    from eyas.errors import install_hint

    found = [encoder.describe() for encoder in find()]
    if as_json:
        print(strict_json(found, indent=2))
        return
    if not found:
        print(f"None. One comes with eyas: {install_hint('demo')} Others are on the Hub, by their names there.")
        return
    shape = "{name:<{width}}{type:<12}{layers:>7}{hidden_size:>13}{vocabulary:>12}{mb:>7}  {from}"
    width = max(len(row["name"]) for row in found) + 2
    for row in [{name: name.replace("_", " ") for name in found[0]}, *found]:
        print(shape.format(**{name: "" if value is None else value for name, value in row.items()}, width=width))


def recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the recipes: method, paper, teacher outputs, students, cost and options."""
    from inspect import signature

    from eyas.generation import RECIPES as WRITING
    from eyas.losses import Loss
    from eyas.training.recipes import CHOICES, COMMON, RECIPES, measured_costs

    rows: dict[str, Any] = {}
    costs = measured_costs()
    for name, recipe in RECIPES.items():
        stages = recipe()
        fields = sorted(frozenset().union(*(stage.teacher_fields for stage in stages)))
        about = (recipe.__doc__ or "").strip().splitlines()[0]
        parts = [part for stage in stages for loss in stage.losses for part in loss.modules()]
        needs = {part.needs for part in parts if isinstance(part, Loss)} - {""}
        if any(stage.replacing for stage in stages):
            fields, needs = ["layers"], {"as wide as the teacher"}
        students = "transformers" if any(stage.is_for_transformers for stage in stages) else "all"
        rows[name] = {"about": about, "stages": len(stages), "reads": fields, "students": students}
        rows[name]["needs"] = " ".join(needs)
        rows[name]["cost_per_step"] = costs.get(name)
        rows[name]["options"] = {option: known.default for option, known in signature(recipe).parameters.items()}
    if as_json:
        print(strict_json(rows, indent=2))
        return
    width = max(map(len, rows)) + 2
    for name, row in rows.items():
        print(f"{name:<{width}}{row['about']}")
        known = {option: "(default)" if value is None else value for option, value in row["options"].items()}
        options = ", ".join(f"{option}={value}" for option, value in known.items())
        cost = f"; a step costs {row['cost_per_step']} times that of hard-labels" if row["cost_per_step"] else ""
        print(
            f"{'':<{width}}  reads {', '.join(row['reads']) or 'nothing'} from the teacher; "
            f"students: {' '.join(filter(None, (row['students'], row['needs'])))}{cost}"
        )
        if options:
            print(f"{'':<{width}}  options: {options}")
    print(f"\nOptions of every recipe: {', '.join(f'{option}={value}' for option, value in COMMON.items())}. Values:")
    for name, choices in CHOICES.items():
        more = ", or pairs of layers: 1-3,2-6" if name == "mapping" else ""
        print(f"  {name}: {', '.join(choices)}{more}")
    print("  temperatures and weights: a number, or linear:8:1, cosine:8:1, steps:8:4:1, annealing:7")
    print("\nOf students that write (--task generation, docs/generation.md):")
    for name, writing in WRITING.items():
        print(f"{name:<{width}}{(writing.__doc__ or '').strip().splitlines()[0]}")
