"""The page's charts in Vega-Lite: drawn in the browser, or saved as SVG or PNG for documents."""

from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
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

# In pixels: the chart, at its narrowest beside a legend; its padding; an entry of the legend, and what else that has.
WIDTH, HEIGHT, PADDING, ENTRY, REST = 520, 420, (24, 16), 16, 170
# Of labels: the height of a line, the mean width of a character, and the distance from a point.
LINE, CHARACTER, GAP = 12, 5.5, 2
# Areas of the points.
AREAS, AREA = (50, 900), 150


def pareto(table: pd.DataFrame, cost: str = "latency") -> Any:
    """Score against a cost (log axis), the front as a line; against latency, the size is the points' area.

    The parameters `dataset` and `recipe` (names, or "all") select what is shown. The winner, the front and the best of
    each model have labels, as far as there is room.

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
    ).sort_values(["winner", "front", "score"], ascending=False, kind="stable")[columns]  # by the right to a label
    first = str(rows["dataset"].iloc[0])
    dataset = alt.param(name="dataset", value=first)
    recipe = alt.param(name="recipe", value="all")
    shown = (alt.datum.dataset == dataset) & (
        (recipe == "all") | (alt.datum.kind != "student") | (alt.datum.recipe == recipe)
    )
    models = list(dict.fromkeys(table["model"]))
    learned = [recipe or "none" for recipe in dict.fromkeys(table["recipe"])]
    height = max(HEIGHT, ENTRY * (len(models) + len(learned)) + REST)
    part = rows["megabytes"] / rows.groupby("dataset")["megabytes"].transform("max")
    areas = AREAS[0] + (AREAS[1] - AREAS[0]) * np.sqrt(part) if cost == "latency" else part * 0 + AREA
    rows = rows.assign(learned=rows["recipe"].replace("", "none"), radius=np.sqrt(areas / np.pi), x=rows[column])
    parts = [_labels(own, height) for _, own in rows.groupby("dataset")]
    base = alt.Chart(pd.concat(parts)).transform_filter(shown)
    x = alt.X(f"{column}:Q", scale=alt.Scale(type="log", nice=False, padding=PADDING[0]), title=title)
    y = alt.Y(
        "score:Q",
        scale=alt.Scale(zero=False, nice=False, padding=PADDING[1]),
        axis=alt.Axis(format=".1~%"),
        title="score",
    )
    area = alt.Size(
        "megabytes:Q",
        title="size, MB",
        scale=alt.Scale(type="sqrt", range=AREAS),
        legend=alt.Legend(values=_spread(rows["megabytes"]), format=".2~r"),
    )
    points = base.mark_point(filled=True, opacity=0.85, stroke="black", strokeWidth=0.4).encode(
        x=x,
        y=y,
        size=area if cost == "latency" else alt.value(AREA),
        color=alt.Color("model:N", scale=_colors(models), title="model"),
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
    spread = base.mark_rule(strokeOpacity=0.5).encode(x=f"{column}:Q", y="low:Q", y2="high:Q", color="model:N")
    front = (
        base.transform_filter(alt.datum.front)
        .mark_line(interpolate="step-after", strokeDash=[5, 4], opacity=0.6, color="gray")
        .encode(x=f"{column}:Q", y="score:Q", order=f"{column}:Q")
    )
    named = (
        base.transform_filter("isValid(datum.dx)")
        .mark_text(dx=alt.expr("datum.dx"), dy=alt.expr("datum.dy"), fontSize=11)
        .encode(x=x, y=y, text="model:N")
    )
    return (
        alt.layer(front, spread, points, named)
        .add_params(dataset, recipe)
        .properties(width="container", height=height, usermeta={"embedOptions": {"renderer": "svg"}})
    )


def learning_curves(rows: pd.DataFrame, models: list[str]) -> Any:
    """Validation score by step.

    Args:
        rows: dataset, title, model, recipe, step, score.
        models: all models of the page, so that each has one color on it.
    """
    dataset = alt.param(name="dataset", value=str(rows["dataset"].iloc[0]))
    recipe = alt.param(name="recipe", value="all")
    shown = (alt.datum.dataset == dataset) & ((recipe == "all") | (alt.datum.recipe == recipe))
    own = [model for model in models if model in set(rows["model"])]
    return (
        alt.Chart(rows)
        .transform_filter(shown)
        .mark_line(point=alt.OverlayMarkDef(size=18), opacity=0.85)
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("score:Q", scale=alt.Scale(zero=False), axis=alt.Axis(format=".1~%"), title="validation score"),
            color=alt.Color("model:N", scale=_colors(models), legend=alt.Legend(title="model", values=own)),
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


def _labels(rows: pd.DataFrame, height: int) -> pd.DataFrame:
    """The rows of one data set with `dx` and `dy`, in pixels from a point to its label; NaN for a point without one.

    In their order, the winner, the front and the best of each model have a label, at the first side of the point where
    it covers no point and no other label. It will not in a wider chart or in one of fewer rows either.

    Args:
        rows: with `x`, `score`, `low`, `high` and `radius`.
    """
    logs, ends = np.log(rows["x"]), (rows["low"].fillna(rows["score"]).min(), rows["high"].fillna(rows["score"]).max())
    x = _pixels(logs, logs.min(), logs.max(), WIDTH, PADDING[0])
    y = _pixels(-rows["score"], -ends[1], -ends[0], height, PADDING[1])
    radius = rows["radius"].to_numpy()
    taken = np.stack([x - radius, y - radius, x + radius, y + radius], axis=1)
    taken = taken[np.isfinite(taken).all(1)]  # models whose cost is not measured have no point
    best = ~rows.sort_values("score", ascending=False).duplicated("model")
    wanted = rows["winner"] | rows["front"] | best.loc[rows.index]
    places = np.full((len(rows), 2), np.nan)
    for row in np.flatnonzero(wanted):
        half, away = CHARACTER * len(rows["model"].iloc[row]) / 2, radius[row] + GAP
        beside, above = away + half, away + LINE / 2
        sides = [(0, -above), (half, -above), (-half, -above), (beside, 0), (-beside, 0), (0, above), (half, above)]
        for dx, dy in sides:
            left, top = x[row] + dx - half, y[row] + dy - LINE / 2
            right, bottom = left + 2 * half, top + LINE
            free = (taken[:, 0] >= right) | (taken[:, 2] <= left) | (taken[:, 1] >= bottom) | (taken[:, 3] <= top)
            if left >= 0 and top >= 0 and right <= WIDTH and bottom <= height and free.all():
                places[row], taken = (dx, dy), np.vstack([taken, (left, top, right, bottom)])
                break
    return rows.assign(dx=places[:, 0], dy=places[:, 1])


def _pixels(values: pd.Series, low: float, high: float, size: int, padding: int) -> np.ndarray:
    """Where an axis of `size` pixels with `padding` at both ends has the values."""
    places: np.ndarray = padding + (size - 2 * padding) * (values.to_numpy() - low) / ((high - low) or 1.0)
    return places


def as_file(chart: Any, path: Path) -> None:
    """Save a chart as SVG or PNG, depending on the suffix of `path`."""
    chart.properties(width=720).save(str(path), scale_factor=2)
