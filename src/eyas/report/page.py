"""The page of an exam: one self-contained HTML file that works offline and can be printed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import vl_convert

from eyas._version import __version__
from eyas.errors import DataError
from eyas.exam.results import (
    COSTS,
    DIFFERENCES,
    MACHINE,
    PLAN,
    TIMING,
    Requirements,
    candidates,
    load_exam,
    plain,
    read_rows,
)
from eyas.kinds import GENERATION
from eyas.outputs import write_atomically
from eyas.report.answers import Answers
from eyas.report.cascades import sentence as cascade_sentence
from eyas.report.cascades import together
from eyas.report.charts import cascades, learning_curves, pareto
from eyas.report.gains import brought, helped, summaries, taught, twins
from eyas.report.training import SCORE, compact, training_curves
from eyas.report.verdict import (
    mark_front,
    reference,
    several_teachers,
    split_of,
    starting_points,
    teacher_doubt,
    verdict,
    worst_slice,
)

PAGE = "report/index.html"
TEMPLATES = Path(__file__).parent / "templates"
# Number of candidates with details and curves on the page; the others have a table row and a point in the chart.
MOST_DETAILS = 60
# Names of metrics on the page.
METRICS = {"span_f1": "span F1", "micro_f1": "micro F1", "pearson": "Pearson correlation", "auc": "AUC", "bleu": "BLEU"}


def write_page(folder: str | Path, requirements: Requirements | None = None) -> Path:
    """Draw `report/index.html` from the results of an exam.

    Args:
        requirements: requirements on the student to ship; by default 97 % of the teacher's score.

    Returns:
        The path of the file.

    Raises:
        DataError: there are no results, or every trial failed.
    """
    folder, requirements = Path(folder).absolute(), requirements or Requirements()
    trials = load_exam(folder)
    table = candidates(trials)
    if table.empty:
        raise DataError(f"Every trial of {folder} failed. The first error: {trials['error'].iloc[0]}")
    table["front"], table["winner"] = mark_front(table), False
    found = {name: verdict(folder, rows, requirements) for name, rows in table.groupby("dataset")}
    table.loc[[index for _, index, _ in found.values() if index is not None], "winner"] = True
    curves = _curves(folder, table)
    scores = _scores(table, curves)
    by_size = table.assign(front=mark_front(table, "size_bytes"))
    charts = {"pareto": pareto(table).to_dict(), "sizes": pareto(by_size, "size").to_dict()}
    if len(scores):
        charts["curves"] = learning_curves(scores, list(table["model"].unique())).to_dict()
    pairs = together(folder, table)
    if pairs:
        charts["cascades"] = cascades(pd.concat([pair.curve for pair in pairs])).to_dict()
    failed, recipes = trials[trials["status"] == "failed"], taught(folder, table)
    content = {
        "datasets": [_dataset(folder, rows, *found[name]) for name, rows in table.groupby("dataset", sort=False)],
        "details": _details(folder, table),
        "training": {key: compact(rows) for key, rows in curves.items()},
        "charts": charts,
    }
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    html = environment.get_template("page.html").render(
        title=folder.name,
        content=_script_json(content),
        datasets=list(table["dataset"].unique()),
        taught=recipes,
        summaries=summaries(recipes),
        helped=helped(folder, table),
        brought=brought(folder, trials, table),
        pairs=[
            (pair.dataset, cascade_sentence(pair, split_of(folder, table[table["dataset"] == pair.dataset])))
            for pair in pairs
        ],
        vega=_vega(),
        style=(TEMPLATES / "page.css").read_text(),
        script=(TEMPLATES / "page.js").read_text(),
        failed=failed[["dataset", "model", "recipe", "without", "seed", "error"]].to_dict("records"),
        plan=(folder / PLAN).read_text() if (folder / PLAN).is_file() else "",
        threads=_threads(read_rows(folder / COSTS)),
        machine=_json(folder / MACHINE) or {},
        trials=len(trials),
        hours=_hours(folder, trials),
        version=__version__,
    )
    path = folder / PAGE
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, html)
    return path


def _dataset(folder: Path, table: pd.DataFrame, said: str, best: Any, good: bool) -> dict[str, Any]:
    """Verdict and rows of one data set."""
    answers, pairs, teacher = Answers(folder, table), twins(table), reference(table)
    rows = []
    for index, row in table.iterrows():
        cells = {name: plain(value) for name, value in row.items() if name != "keys"}
        cells["id"] = row["keys"][0]
        cells["interval"] = answers.interval(index)
        cells["retention_interval"] = None if teacher in (None, index) else answers.retention(index, teacher)
        if index in pairs:
            cells["gain"] = vars(answers.compare(index, pairs[index]))
        if best is not None and index != best:
            cells["against_winner"] = vars(answers.compare(index, best))
        rows.append(cells)
    metric = str(table["metric"].iloc[0])
    named = METRICS.get(metric, metric)
    split, loses = split_of(folder, table), ""
    if best is not None:
        found = _json(folder / "trials" / table.loc[best, "keys"][0] / DIFFERENCES) or {}
        loses = worst_slice(found.get("slices", ()))
    splits = {"test": "the test split", "validation": "the validation split, which also chose the checkpoints"}
    return {
        "name": str(table["dataset"].iloc[0]),
        "metric": named,
        "writes": table["task"].iloc[0] == GENERATION,
        "verdict": said,
        "loses": loses,
        "doubt": teacher_doubt(answers, table).replace(" -", " \N{MINUS SIGN}"),
        "together": several_teachers(answers, table).replace(" -", " \N{MINUS SIGN}"),
        "starts": starting_points(table),
        "good": good,
        "scored_on": f"{named} on {int(table['rows'].iloc[0]):,} rows of {splits[split]}",
        "rows": rows,
    }


def _details(folder: Path, table: pd.DataFrame) -> dict[str, Any]:
    """{candidate id: what its first seed lost}, for the front and the most accurate candidates."""
    ranked = table[table["kind"] != "teacher"].sort_values(["winner", "front", "score"], ascending=False)
    most = -(-MOST_DETAILS // table["dataset"].nunique())
    keys = [row[0] for row in ranked.groupby("dataset").head(most)["keys"]]
    found = {key: _json(folder / "trials" / key / DIFFERENCES) for key in keys}
    return {key: content for key, content in found.items() if content}


def _curves(folder: Path, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{student id: its training curves}, the most accurate first."""
    students = table[table["kind"] == "student"].sort_values("score", ascending=False)[:MOST_DETAILS]
    found = {keys[0]: training_curves(folder, keys) for keys in students["keys"]}
    return {key: curves for key, curves in found.items() if len(curves)}


def _scores(table: pd.DataFrame, curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Validation scores of these students, in the format of `learning_curves`."""
    scores = []
    for row in table.to_dict("records"):  # trials that differ only in a name share a key
        if row["keys"][0] in curves:
            named = {name: row[name] for name in ("dataset", "title", "model", "recipe")}
            rows = curves[row["keys"][0]]
            scores.append(rows[rows["name"] == SCORE].assign(**named))
    return pd.concat(scores).rename(columns={"value": "score"}).drop(columns="stage") if scores else pd.DataFrame()


def _threads(costs: list[dict[str, Any]]) -> str:
    count = costs[0]["threads"] if costs else 1
    return "one thread" if count == 1 else f"{count} threads"


def _hours(folder: Path, trials: pd.DataFrame) -> float:
    times = (_json(folder / "trials" / key / TIMING) for key in trials["key"])
    return float(sum(time["trial_seconds"] for time in times if time)) / 3600


@cache
def _vega() -> str:
    """The scripts that draw the charts; bundling them takes two seconds."""
    return vl_convert.javascript_bundle("window.vegaEmbed=vegaEmbed;").replace("</script", "<\\/script")


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


def _script_json(content: Any) -> str:
    """JSON that is safe inside a script element."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
