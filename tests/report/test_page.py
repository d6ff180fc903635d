"""The page, as a file and in a real browser."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from eyas.errors import DataError
from eyas.exam.best import find_best
from eyas.exam.results import COSTS, PREDICTIONS, RESULTS, TWIN, Requirements, candidates, load_exam, winner
from eyas.report import write_page
from eyas.report.charts import as_file, pareto
from eyas.report.gains import helped, summaries, taught
from eyas.report.training import training_curves
from eyas.report.verdict import mark_front, sentence, verdict

Row = dict[str, Any]
CNN = "cnn-e16-h32"  # one of the two students of the planted exam


def _part(results: Path, folder: Path, keeps: Callable[[Row], bool]) -> Path:
    """The planted exam with only the trials that `keeps` selects."""
    shutil.copytree(results, folder)
    for name in (RESULTS, COSTS):
        rows = [line for line in (folder / name).read_text().splitlines() if keeps(json.loads(line))]
        (folder / name).write_text("".join(f"{row}\n" for row in rows))
    return folder


def _is_plain(row: Row) -> bool:
    """One data set and one recipe, plus the twins without a teacher; costs have no recipes."""
    return row["dataset"] == "films" and row.get("recipe", "") in ("", "logit-mse", TWIN)


@pytest.fixture(scope="module")
def plain(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _part(results, tmp_path_factory.mktemp("plain") / "exam", _is_plain)


@pytest.fixture(scope="module")
def page_file(plain: Path) -> Path:
    return write_page(plain)


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page in a browser without a network; any error on it fails the test."""
    context = browser.new_context(offline=True)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(page_file.as_uri())
    page.wait_for_selector("#pareto svg")
    yield page
    context.close()
    assert not errors


def _column(page: Any, number: int) -> list[str]:
    return [str(text) for text in page.locator(f"#candidates tbody tr > :nth-child({number})").all_inner_texts()]


def test_page_says_if_the_teacher_is_no_better_than_a_linear_model(
    page_file: Path, plain: Path, tmp_path: Path
) -> None:
    """The planted teacher and linear model answer alike; as long as its score is perfect, nothing is said."""
    assert "not certainly better" not in page_file.read_text()
    folder = tmp_path / "exam"
    shutil.copytree(plain, folder)
    rows = [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]
    for row in rows:
        if row["kind"] == "teacher":
            row["score"] = 0.9
    (folder / RESULTS).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert "The teacher (90.0) is not certainly better than a linear model" in write_page(folder).read_text()


def test_verdict_says_if_something_simpler_scores_more(plain: Path, tmp_path: Path) -> None:
    """The planted models answer alike; then the student is given another score."""
    table = candidates(load_exam(plain))
    said, best, _ = verdict(plain, table, Requirements())
    assert said.startswith("Ship ")
    assert said.endswith(" MB.")
    table.loc[best, "score"] = 0.9
    said = verdict(plain, table, Requirements())[0]
    assert (
        " MB, but on the labels alone the same student scores more (100.0 against 90.0), so the teacher does not "
        in said
    )
    assert "help, and the linear model " in said
    assert said.endswith("+ LR scores more, within the interval (100.0 against 90.0), so a student may not be needed.")
    table.loc[table["kind"] == "baseline", "latency_ms"] = 1e3
    table.loc[table["kind"] == "baseline", "size_bytes"] = 1
    assert verdict(plain, table, Requirements())[0].endswith("so the student has only its speed to offer.")


def test_page_is_self_contained(page_file: Path, plain: Path) -> None:
    html = page_file.read_text()
    assert not re.findall(r"(?:src|href)=[\"']?([^\"' >]+)", html.split("<script", 1)[0])
    assert page_file.stat().st_size < 2e6
    assert (plain / "plan.yaml").read_text().splitlines()[0] in html


@pytest.fixture(scope="module")
def texts_exam(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One student on the films, with and without more texts."""

    def keeps(row: Row) -> bool:
        return _is_plain({**row, "dataset": "films"}) and row["model"] != CNN

    return _part(results, tmp_path_factory.mktemp("texts") / "exam", keeps)


@pytest.fixture(scope="module")
def recipes_exam(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One student with all recipes."""

    def keeps(row: Row) -> bool:
        return row["dataset"] == "films" and row["model"] != CNN

    return _part(results, tmp_path_factory.mktemp("recipes") / "exam", keeps)


def test_helped_compares_a_student_with_and_without_more_texts(texts_exam: Path) -> None:
    table = candidates(load_exam(texts_exam))
    rows = helped(texts_exam, table)
    assert [(row.dataset, row.transfer) for row in rows] == [("films", ""), ("more", "tang:2, mixup 0.4")]
    assert [row.gain is None for row in rows] == [True, False]
    alone = table[(table["title"] == rows[1].title) & (table["transfer"] == "")].iloc[0]
    assert rows[1].texts > alone["transfer_texts"]
    gain = rows[1].gain
    assert gain is not None
    assert gain.difference == pytest.approx(rows[1].score - alone["score"])
    assert gain.low <= gain.difference <= gain.high


def test_taught_compares_recipes_with_first_and_options_with_none(recipes_exam: Path) -> None:
    rows = taught(recipes_exam, candidates(load_exam(recipes_exam)))
    against = {"logit-mse": "", "soft-targets": "logit-mse", "soft-targets loss=huber": "soft-targets"}
    assert {row.recipe: row.against for row in rows} == {**against, "hard-labels": "logit-mse"}
    scores = {row.recipe: row.scores["films"] for row in rows}
    for row in rows[1:]:
        gain = row.gains["films"]
        assert gain.difference == pytest.approx(scores[row.recipe] - scores[row.against])
        assert not gain.certain or gain.difference * gain.low > 0


def test_page_omits_comparisons_without_data(page_file: Path) -> None:
    page = page_file.read_text()
    assert "Which texts helped" not in page
    assert "Which recipe" not in page


def test_page_shows_which_texts_helped(texts_exam: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto(write_page(texts_exam).as_uri())
    assert page.get_by_text("Which texts helped").count() == 1
    assert page.locator("#helped tbody tr").count() == 2
    assert page.locator("#helped tbody tr").nth(1).inner_text().startswith("more\ttang:2, mixup 0.4\tstatic")
    page.close()


def test_page_shows_which_recipe_is_best(recipes_exam: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto(write_page(recipes_exam).as_uri())
    assert page.get_by_text("Which recipe").count() == 1
    assert page.locator("#taught tbody tr").count() == 4
    said = page.locator("section[aria-labelledby=taught-title] p").first.inner_text()
    assert said == summaries(taught(recipes_exam, candidates(load_exam(recipes_exam))))[0]
    page.close()


def test_taught_marks_certain_gains(tmp_path: Path) -> None:
    """A gain is certain beyond its interval and the spread over seeds; a data set may lack a recipe."""

    def candidate(dataset: str, recipe: str, right: int, std: float = 0.01) -> dict[str, Any]:
        key = f"{dataset}-{recipe}"
        (tmp_path / "trials" / key).mkdir(parents=True)
        sums = [[float(place < right), 1.0] for place in range(100)]
        pd.DataFrame({"sums": sums}).to_parquet(tmp_path / "trials" / key / PREDICTIONS)
        who = {"kind": "student", "model": "cnn", "precision": "int8", "embeddings": "teacher"}
        found = {"metric": "accuracy", "score": right / 100, "score_std": std, "keys": [key]}
        return {"dataset": dataset, "recipe": recipe, **who, **found}

    table = pd.DataFrame(
        [
            candidate("films", TWIN, 60),
            candidate("films", "dist", 70),
            candidate("films", "logit-mse", 80),
            candidate("films", "dist weight=1", 90, std=0.3),  # beyond its interval, within the spread
            candidate("films", "ad-kd", 95, std=float("nan")),  # of a single seed
            candidate("books", "logit-mse", 90),
            candidate("books", "dist weight=1", 50),
        ]
    )
    rows = {row.recipe: row for row in taught(tmp_path, table)}
    assert {recipe: row.against for recipe, row in rows.items()} == {
        TWIN: "dist",
        "dist": "",
        "logit-mse": "dist",
        "dist weight=1": "dist",
        "ad-kd": "dist",
    }
    certain = {recipe: [gain.certain for gain in row.gains.values()] for recipe, row in rows.items()}
    assert certain == {TWIN: [True], "dist": [], "logit-mse": [True], "dist weight=1": [False], "ad-kd": [False]}
    assert rows["logit-mse"].scores == {"films": 0.8, "books": 0.9}
    assert set(rows["logit-mse"].gains) == {"films"}  # nothing to compare with on the other data set
    assert rows["logit-mse"].mean == pytest.approx(0.1)
    assert rows["dist"].mean == pytest.approx(0.7)
    said = (
        "cnn: logit-mse scores highest. Beyond the spread, better: logit-mse than dist; worse: hard-labels than dist."
    )
    assert summaries(list(rows.values())) == [said]


def test_page_shows_terms_of_the_loss(plain: Path, browser: Any, tmp_path: Path) -> None:
    """Means over seeds, stage after stage: the score, the loss if it has several terms, and each term."""
    folder = tmp_path / "exam"
    shutil.copytree(plain, folder)
    rows = [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]
    one = next(row for row in rows if row["kind"] == "student" and row["recipe"] != TWIN)
    (folder / RESULTS).write_text(
        "".join(f"{json.dumps(row)}\n" for row in [*rows, {**one, "seed": 1, "key": "again"}])
    )
    shutil.copytree(folder / "trials" / one["key"], folder / "trials" / "again")
    for key, more in ((one["key"], 0.0), ("again", 0.2)):
        history = [
            {"stage": 0, "step": 5, "loss": 3.0, "loss/DISTLoss": 2.0, "loss/HardLabelLoss": 1.0},
            {"stage": 0, "step": 10, "loss": 2.0, "loss/DISTLoss": 1.5, "loss/HardLabelLoss": 0.5},
            {"stage": 0, "step": 10, "eval_loss": 1.0, "eval_score": 0.5 + more},
            {"stage": 1, "step": 4, "loss": 1 + more, "loss/LogitMSELoss": 1 + more},
            {"stage": 1, "step": 4, "eval_loss": 1.0, "eval_score": 0.7 + more},
            {"stage": 1, "step": 4, "eval_loss": 1.0, "eval_score": float("nan")},
        ]
        path = folder / "trials" / key / "student" / "training_history.jsonl"
        path.write_text("".join(f"{json.dumps(entry)}\n" for entry in history))
    page = browser.new_page()
    page.goto(write_page(folder).as_uri())
    assert not page.locator("#training").is_visible()
    page.get_by_text("Terms of the loss").click()
    card = page.locator("#training table").filter(has_text="DISTLoss")
    assert [line.inner_text().split("\t")[:3] for line in card.locator("tbody tr").all()] == [
        ["validation score", "60.0", "80.0"],
        ["1.\u00a0loss", "3", "2"],
        ["1.\u00a0DISTLoss", "2", "1.5"],
        ["1.\u00a0HardLabelLoss", "1", "0.5"],
        ["2.\u00a0LogitMSELoss", "1.1", "1.1"],
    ]
    assert card.locator("tbody tr").first.get_attribute("title") == "step 10: 60.0\nstep 14: 80.0"
    assert page.locator("#training table").count() == 4
    page.select_option("#recipe", TWIN)
    assert page.locator("#training table").count() == 2
    page.close()


def test_training_curves_average_long_histories(tmp_path: Path) -> None:
    path = tmp_path / "trials" / "key" / "student" / "training_history.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f'{{"stage": 0, "step": {step}, "loss": {step}.0}}\n' for step in range(1, 6001)))
    curves = training_curves(tmp_path, ["key", "without a history"])
    assert len(curves) == 60
    assert curves[["step", "value"]].iloc[[0, -1]].values.tolist() == [[100, 50.5], [6000, 5950.5]]
    assert training_curves(tmp_path, ["without a history"]).empty


def test_page_sorts_the_table(page: Any) -> None:
    accuracy = [float(text.split()[0]) for text in _column(page, 2)]
    assert len(accuracy) == 8
    assert accuracy == sorted(accuracy, reverse=True)
    page.get_by_role("button", name="latency, ms").click()
    latency = [float(text) for text in _column(page, 5)]
    assert latency == sorted(latency, reverse=True)
    page.get_by_role("button", name="latency, ms").press("Enter")  # by keyboard, and the focus stays
    assert [float(text) for text in _column(page, 5)] == sorted(latency)
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("latency")


def test_page_filters_by_recipe(page: Any) -> None:
    page.select_option("#recipe", "logit-mse")
    assert len(_column(page, 1)) == 6
    page.wait_for_timeout(300)
    marks = page.locator("#pareto path[aria-roledescription='point']")
    assert marks.count() == 6


def test_page_shows_verdict_of_the_winner(page: Any, plain: Path) -> None:
    table = candidates(load_exam(plain))
    index, good = winner(table, Requirements())
    kept = table.loc[index, "retention"]
    said = sentence(dict(table.loc[index]), good, Requirements(), "test", (kept, kept))
    assert page.locator("h1").inner_text() == said  # perfect, so that the interval has no width
    assert page.locator("tr.winner").count() == 1


def test_page_shows_what_a_model_lost(page: Any) -> None:
    page.locator("#candidates tbody button").last.click()
    chosen = page.locator("#detail option:checked").inner_text()
    assert chosen == _column(page, 1)[-1]
    rows = page.locator("#slices tbody tr")
    assert rows.first.inner_text().startswith("label ")
    assert "with a word not seen in training" in page.locator("#slices").inner_text()
    page.fill("#flip-text", "no text has this in it")
    assert page.locator("#flips li").count() == 0


def test_table_fits_the_screen(page: Any) -> None:
    """What decides is seen at 1,280 pixels; the rest on demand."""
    page.set_viewport_size({"width": 1280, "height": 900})
    needs, has = page.evaluate("[document.querySelector('#candidates').scrollWidth, innerWidth]")
    assert needs <= has
    titles = page.locator("#candidates th").all_inner_texts()
    for title in ("score", "retention", "gain", "latency", "speed", "size", "notes"):
        assert any(title in shown for shown in titles), title
    page.check("#all-columns")
    assert page.locator("#candidates th").count() > len(titles)


def test_slices_of_few_rows_are_grey(page: Any) -> None:
    rows = page.locator("#slices tbody tr")
    found = [(int(row.locator("td").nth(1).inner_text()), row.get_attribute("class") or "") for row in rows.all()]
    assert {count < 20 for count, _ in found} == {True, False}
    assert all(("few" in name) == (count < 20) for count, name in found)


def test_chart_names_points_and_sizes(page: Any) -> None:
    written = page.locator("#pareto svg text").all_text_contents()
    assert {"teacher", "size, MB"} <= set(written)
    assert len({name.split(",")[0] for name in _column(page, 1)} & set(written)) >= 2


def test_page_shows_size_on_an_axis_of_its_own(page: Any, plain: Path) -> None:
    page.wait_for_selector("#sizes svg")
    points = page.locator("#sizes path[aria-roledescription='point']")
    by_name = {point.get_attribute("aria-label"): point for point in points.all()}
    places = {name: point.bounding_box()["x"] for name, point in by_name.items()}
    table = candidates(load_exam(plain)).sort_values("size_bytes")
    assert set(places) == set(table["title"]), list(places)[:2]
    drawn = [places[title] for title in table["title"]]
    assert drawn == sorted(drawn)
    assert points.count() == len(table)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_page_adapts_to_color_scheme_and_width(browser: Any, page_file: Path, scheme: str, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector("#pareto svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # wide tables scroll on their own
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if scheme == "dark" else "rgb(255, 255, 255)")
    context.close()


def test_write_page_handles_missing_costs_and_failed_trials(plain: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plain, tmp_path / "exam"))
    (copy / "costs.jsonl").unlink()
    with pytest.raises(DataError, match="measured"):
        find_best(copy)
    assert "is not measured beside its teacher yet" in write_page(copy).read_text()
    rows = [
        {**json.loads(line), "status": "failed", "error": "no memory"}
        for line in (copy / RESULTS).read_text().splitlines()
    ]
    (copy / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="no memory"):
        write_page(copy)


def test_labels_of_points_do_not_overlap(plain: Path, tmp_path: Path) -> None:
    """Twelve models close together: read from the drawn chart, at 5.5 x 11 pixels a character."""
    table = candidates(load_exam(plain))
    one = table[table["kind"] == "student"].iloc[0]
    close = [
        {**one, "model": f"student-{number}", "score": 0.9 + number % 3 / 100, "latency_ms": 0.1 + number / 1000}
        for number in range(12)
    ]
    table = pd.concat([table, pd.DataFrame(close)], ignore_index=True)
    as_file(pareto(table.assign(front=mark_front(table), winner=False)), tmp_path / "chart.svg")
    marks = (tmp_path / "chart.svg").read_text().split("mark-text role-mark layer_3_marks")[1].split("</g>")[0]
    found = re.findall(r"translate\(([-\d.]+),([-\d.]+)\)[^>]*>([^<]+)</text>", marks)
    assert {"teacher"} < {name for _, _, name in found}
    assert sum(name.startswith("student-") for _, _, name in found) >= 3
    for (x, y, name), (other_x, other_y, other) in combinations(found, 2):
        room = 5.5 * (len(name) + len(other)) / 2
        assert abs(float(x) - float(other_x)) >= room - 1 or abs(float(y) - float(other_y)) >= 11, (name, other)


def test_points_have_labels_beside_a_teacher_without_a_cost(plain: Path) -> None:
    table = candidates(load_exam(plain))
    teacher = table["kind"] == "teacher"
    table = table.assign(**{name: table[name].mask(teacher) for name in ("latency_ms", "size_bytes")})
    (rows,) = pareto(table.assign(front=mark_front(table), winner=False)).to_dict()["datasets"].values()
    named = {row["model"] for row in rows if row["dx"] is not None}
    assert CNN in named
    assert "teacher" not in named


def test_as_file_saves_svg(plain: Path, tmp_path: Path) -> None:
    table = candidates(load_exam(plain))
    as_file(pareto(table.assign(front=mark_front(table), winner=False)), tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")


def test_page_escapes_texts(plain: Path, tmp_path: Path, browser: Any) -> None:
    copy = Path(shutil.copytree(plain, tmp_path / "exam"))
    for path in copy.glob("trials/*/differences.json"):
        content = json.loads(path.read_text())
        flip = {"text": "</script><script>alert(1)</script><!--", "label": "a", "student": "b", "teacher": "a"}
        content["flips"] = [{**flip, "student_score": 1.0, "teacher_score": 1.0}]
        path.write_text(json.dumps(content))
    path = write_page(copy)
    assert path.read_text().count("</script>") == 3
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator("#flips p").first.inner_text() == flip["text"]
    page.close()


@pytest.mark.slow
def test_page_of_two_thousand_trials_is_small_and_fast(plain: Path, tmp_path: Path, browser: Any) -> None:
    """The page stays small and opens fast."""
    copy = Path(shutil.copytree(plain, tmp_path / "exam"))
    rows = [json.loads(line) for line in (copy / RESULTS).read_text().splitlines()]
    student = next(row for row in rows if row["kind"] == "student")
    many = [{**student, "model": f"m{n // 3}", "seed": n % 3, "score": 0.5 + n / 5000} for n in range(2000)]
    (copy / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in [*rows, *many]))
    costs = [json.loads(line) for line in (copy / "costs.jsonl").read_text().splitlines()]
    form = next(row for row in costs if row["model"] == student["model"])
    extra = [{**form, "model": f"m{n}", "latency_ms": 0.01 + n / 1000} for n in range(667)]
    with open(copy / "costs.jsonl", "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in extra)
    path = write_page(copy)
    assert path.stat().st_size < 8e6
    opened = browser.new_page()
    started = time.monotonic()
    opened.goto(path.as_uri())
    opened.wait_for_selector("#pareto svg")
    seconds = time.monotonic() - started
    assert opened.locator("#candidates tbody tr").count() == 8 + 667
    opened.close()
    assert seconds < 6  # 2 on a quiet machine
