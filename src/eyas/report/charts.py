"""The page's charts in Vega-Lite: drawn in the browser, or saved as SVG or PNG for documents."""

from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

alt.data_transformers.disable_max_rows()

# Okabe & Ito's colors, which color-blind readers can tell apart.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]


# The costs that a score is drawn against: the column, and the title of its axis.
COSTS = {
    "latency": ("latency_ms", "latency of one text, ms (log)"),
    "size": ("megabytes", "size on disk, MB (log)"),
}


def pareto(table: pd.DataFrame, cost: str = "latency") -> Any:
    """Score against a cost (log axis), the front as a line; against latency, the size is the points' area.

    The parameters `dataset` and `recipe` (names, or "all") select what is shown.

    Args:
        table: candidates, with `front` (for this cost) and `winner`.
        cost: a key of `COSTS`.
    """
    column, title = COSTS[cost]
    columns = [
        *("dataset", "kind", "model", "title", "recipe", "score", "score_std", "retention", "latency_ms"),
        *("times_faster", "megabytes", "front", "winner", "low", "high", "seeds"),
    ]
    rows = table.assign(
        megabytes=table["size_bytes"] / 1e6,
        low=table["score"] - table["score_std"],
        high=table["score"] + table["score_std"],
    )[columns]
    first = str(rows["dataset"].iloc[0])
    dataset = alt.param(name="dataset", value=first)
    recipe = alt.param(name="recipe", value="all")
    shown = (alt.datum.dataset == dataset) & (
        (recipe == "all") | (alt.datum.kind != "student") | (alt.datum.recipe == recipe)
    )
    models = list(dict.fromkeys(rows["model"]))
    learned = [recipe or "none" for recipe in dict.fromkeys(rows["recipe"])]
    base = alt.Chart(rows.assign(learned=rows["recipe"].replace("", "none"))).transform_filter(shown)
    x = alt.X(f"{column}:Q", scale=alt.Scale(type="log", nice=False, padding=24), title=title)
    y = alt.Y("score:Q", scale=alt.Scale(zero=False, padding=16), axis=alt.Axis(format=".1~%"), title="score")
    area = alt.Size(
        "megabytes:Q",
        title="size, MB",
        scale=alt.Scale(type="sqrt", range=[50, 900]),
        legend=alt.Legend(values=_spread(rows["megabytes"]), format=".2~r"),
    )
    points = base.mark_point(filled=True, opacity=0.85, stroke="black", strokeWidth=0.4).encode(
        x=x,
        y=y,
        size=area if cost == "latency" else alt.value(150),
        color=alt.Color("model:N", title="model", sort=models, scale=_colors(models)),
        shape=alt.Shape("learned:N", title="recipe", sort=learned, scale=alt.Scale(domain=learned, range=SHAPES)),
        tooltip=[
            alt.Tooltip("title:N", title="model"),
            alt.Tooltip("score:Q", format=".1%"),
            alt.Tooltip("score_std:Q", format=".2%", title="± over seeds"),
            alt.Tooltip("retention:Q", format=".1%"),
            alt.Tooltip("latency_ms:Q", format=".3f", title="latency, ms"),
            alt.Tooltip("times_faster:Q", format=",.1f", title="times the teacher's speed"),
            alt.Tooltip("megabytes:Q", format=",.2f", title="size, MB"),
            alt.Tooltip("seeds:Q"),
        ],
        description="title:N",
    )
    spread = base.mark_rule(opacity=0.5).encode(x=f"{column}:Q", y="low:Q", y2="high:Q", color="model:N")
    front = (
        base.transform_filter(alt.datum.front)
        .mark_line(interpolate="step-after", strokeDash=[5, 4], opacity=0.6, color="gray")
        .encode(x=f"{column}:Q", y="score:Q", order=f"{column}:Q")
    )
    named = (
        base.transform_filter(alt.datum.front | alt.datum.winner | (alt.datum.title == "teacher fp32"))
        .mark_text(dy=-18, dx=alt.expr(f"max(0, 3 * length(datum.model) - scale('x', datum.{column}))"), fontSize=11)
        .encode(x=x, y=y, text="model:N")
    )
    return (
        alt.layer(front, spread, points, named)
        .add_params(dataset, recipe)
        .properties(width="container", height=420, usermeta={"embedOptions": {"renderer": "svg"}})
    )


def learning_curves(rows: pd.DataFrame) -> Any:
    """Validation score by step; `rows` has dataset, title, model, recipe, step, score."""
    dataset = alt.param(name="dataset", value=str(rows["dataset"].iloc[0]))
    recipe = alt.param(name="recipe", value="all")
    shown = (alt.datum.dataset == dataset) & ((recipe == "all") | (alt.datum.recipe == recipe))
    return (
        alt.Chart(rows)
        .transform_filter(shown)
        .mark_line(point=alt.OverlayMarkDef(size=18), opacity=0.85)
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("score:Q", scale=alt.Scale(zero=False), axis=alt.Axis(format=".1~%"), title="validation score"),
            color=alt.Color("model:N", scale=_colors(list(dict.fromkeys(rows["model"]))), title="model"),
            strokeDash=alt.StrokeDash("recipe:N", title="recipe", legend=alt.Legend(symbolType="stroke")),
            detail="title:N",
            tooltip=["title:N", "step:Q", alt.Tooltip("score:Q", format=".1%")],
        )
        .add_params(dataset, recipe)
        .properties(width="container", height=300)
    )


def cascades(rows: pd.DataFrame) -> Any:
    """Score against mean latency as the threshold of a cascade moves; `rows` as in `Together.curve`."""
    dataset = alt.param(name="dataset", value=str(rows["dataset"].iloc[0]))
    recipe = alt.param(name="recipe", value="all")
    return (
        alt.Chart(rows)
        .transform_filter(alt.datum.dataset == dataset)
        .mark_line(point=alt.OverlayMarkDef(size=22), color=PALETTE[0])
        .encode(
            x=alt.X(
                "latency_ms:Q", scale=alt.Scale(type="log", nice=False, padding=16), title="mean latency, ms (log)"
            ),
            y=alt.Y("score:Q", scale=alt.Scale(zero=False), axis=alt.Axis(format=".1~%"), title="score"),
            order="latency_ms:Q",
            tooltip=[
                alt.Tooltip("threshold:Q", format=".3f", title="answers from a confidence of"),
                alt.Tooltip("answered:Q", format=".0%", title="answered by the student"),
                alt.Tooltip("score:Q", format=".1%"),
                alt.Tooltip("latency_ms:Q", format=".3f", title="mean latency, ms"),
            ],
        )
        .add_params(dataset, recipe)
        .properties(width="container", height=260)
    )


def _spread(sizes: pd.Series) -> list[float]:
    """Up to four of the sizes, from the smallest to the largest, evenly spaced in rank."""
    known = sorted({float(f"{size:.2g}") for size in sizes.dropna()})
    places = {round(part * (len(known) - 1) / 3) for part in range(4)} if known else set()
    return [known[place] for place in sorted(places)]


def _colors(models: list[str]) -> alt.Scale:
    if len(models) <= len(PALETTE):
        return alt.Scale(domain=models, range=PALETTE[: len(models)])
    return alt.Scale(domain=models, scheme="tableau20")


def as_file(chart: Any, path: Path) -> None:
    """Save a chart as SVG or PNG, depending on the suffix of `path`."""
    chart.properties(width=720).save(str(path), scale_factor=2)
