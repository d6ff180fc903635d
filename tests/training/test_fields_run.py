"""Rows of fields from a teacher to an exported student, which answers as it does in torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from conftest import QUICK
from toys import field_rows

import eyas
from eyas import FileTeacher, FunctionTeacher, Predictor, StudentSettings, Teacher
from eyas.data.datasets import ids_of
from eyas.errors import DataError, ExportError, EyasError, LabelError, ModelError
from eyas.exam.entries import load_entry
from eyas.exam.plan_file import make_plan
from eyas.models import CINForSequenceClassification, DAGFMForSequenceClassification
from eyas.settings import Columns, DistillSettings, TransferSettings
from eyas.tasks import Task
from eyas.teachers import label_texts
from eyas.training.students import create_student

Run = Callable[..., tuple[int, str, str]]
FIELDS = Columns(task="fields")
NAMES = ("user", "item", "site")
CLICKS = Task("fields", ("0", "1"))


def test_student_learns_the_interaction(toy_fields: Path, cin_folder: Path, dagfm_folder: Path, run: Run) -> None:
    told = run(
        "evaluate", "--model", dagfm_folder, "--teacher", cin_folder, "--data", toy_fields, "--task", "fields", "--json"
    )[1]
    scores = json.loads(told)
    assert scores["teacher_auc"] > 0.95
    assert scores["auc"] > 0.95
    assert scores["interval"][0] <= scores["auc"] <= scores["interval"][1]
    assert scores["log_loss"] < 0.4


def test_exported_student_answers_raw_rows(dagfm_folder: Path, shipped_fields: Path) -> None:
    asked: list[Any] = [{"user": 1, "item": "i3", "site": "s", "more": 5}, {"site": "s", "item": "i2", "user": "1"}]
    predictor, model = Predictor(shipped_fields), eyas.Classifier.from_pretrained(dagfm_folder)
    np.testing.assert_allclose(predictor.predict_proba(asked), model.predict_proba(asked), atol=1e-5)
    liked, disliked = (answer["score"] for answer in predictor(asked))
    assert liked > 0.5 > disliked
    np.testing.assert_allclose(predictor.predict(asked), [liked, disliked])


def test_predict_reads_a_table_without_torch(shipped_fields: Path, toy_fields: Path, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("predict", "--model", shipped_fields, toy_fields / "test.csv", "--quiet")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers[0].keys() == {*NAMES, "click", "score"}
    given = [{name: str(value) for name, value in row.items()} for row in field_rows(100, 2)]
    np.testing.assert_allclose([a["score"] for a in answers], Predictor(shipped_fields).predict(given), atol=1e-6)
    (tmp_path / "rows.jsonl").write_text('{"user": 1}\n')
    code, _, said = run("predict", "--model", shipped_fields, tmp_path / "rows.jsonl", "--quiet")
    assert code == 2
    assert "no field 'item'" in said


def test_export_is_checked_on_rows_of_a_file(dagfm_folder: Path, toy_fields: Path, run: Run, tmp_path: Path) -> None:
    arguments = ["--model", dagfm_folder, "--data", toy_fields / "test.csv", "--out", tmp_path / "shipped"]
    code, _, err = run("export", *arguments)
    assert code == 0
    assert "of the variance kept, 100 compared" in err


def test_error_names_the_line_of_the_table(shipped_fields: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"user": 1, "item": "i1", "site": "s"}\n\n{"user": 1, "item": "i1"}\n')
    code, out, err = run("predict", "--model", shipped_fields, tmp_path / "rows.jsonl", "--quiet")
    assert code == 2
    assert out.count("\n") == 1
    assert "rows.jsonl:3: Row 0 has no field 'site'" in err


def test_unseen_values_share_an_id_of_their_field(shipped_fields: Path) -> None:
    base = {"user": "1", "item": "i3", "site": "s"}
    unseen = [{**base, "item": value} for value in ("i99", "", None, "user=1")]
    found = Predictor(shipped_fields).predict([base, *unseen, {**base, "user": "99"}])
    np.testing.assert_allclose(found[1:5], found[1])
    assert found[5] != found[1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"user": "1", "item": "i3"}, "Row 1 has no field 'site', expected user, item, site"),
        ({"user": "1", "item": ["i3"], "site": "s"}, "'item' is a list, expected one value"),
        (["1", "i3", "s"], "Row 1 is ['1', 'i3', 's'], expected the fields user, item, site, by name"),
    ],
)
def test_bad_row_is_refused(row: Any, said: str, shipped_fields: Path) -> None:
    with pytest.raises(DataError) as raised:
        Predictor(shipped_fields)([{"user": "1", "item": "i3", "site": "s"}, row])
    assert said in str(raised.value)


def test_student_takes_the_vectors_of_a_teacher_with_the_same_fields(toy_fields: Path, cin_folder: Path) -> None:
    train = eyas.load_data(toy_fields, FIELDS)["train"]
    teacher = Teacher(str(cin_folder))
    student, tokenizer = create_student("dagfm-outer", teacher, train)
    assert isinstance(student, DAGFMForSequenceClassification)
    assert student.config.interaction == "outer"
    own, theirs = (model.get_input_embeddings().weight for model in (student, teacher.model))
    assert bool((own == theirs).all())
    assert tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
    other, _ = create_student(StudentSettings("cin", embedding_size=4, vocab_size=12), teacher, train)
    assert isinstance(other, CINForSequenceClassification)
    assert other.get_input_embeddings().weight.shape == (12, 4)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("bilstm", "choose one of dagfm"),
        (StudentSettings("dagfm", hidden_size=3), "dagfm has no hidden_size"),
        (StudentSettings("cin", layers=3), "cin has no layers"),
        (StudentSettings("dagfm", embeddings="mixed"), "embeddings mixed"),
    ],
)
def test_other_students_are_refused(
    student: Any, said: str, toy_fields: Path, cin_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as raised:
        eyas.distill(cin_folder, toy_fields, tmp_path / "out", student, columns=FIELDS)
    assert said in str(raised.value)


def test_models_of_fields_read_no_texts(
    toy_data: Path, toy_fields: Path, cin_folder: Path, dagfm_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="--task fields"):
        eyas.finetune("cin", toy_data, tmp_path / "out")
    settings = DistillSettings(StudentSettings("dagfm"), transfer=TransferSettings(augment=("tang:2",)))
    with pytest.raises(DataError, match="--augment"):
        eyas.distill(cin_folder, toy_fields, tmp_path / "out", settings=settings, columns=FIELDS)
    with pytest.raises(ExportError, match="--web"):
        eyas.export_model(dagfm_folder, tmp_path / "out", web=True)


@pytest.mark.parametrize("form", ["probability", "score", "0,1", "label"])
def test_file_of_probabilities_teaches(form: str, toy_fields: Path, tmp_path: Path) -> None:
    table = pandas.DataFrame(field_rows(600))
    chance = np.where(table.pop("click") == 1, 0.8, 0.3)
    answers = {"0,1": {"0": 1 - chance, "1": chance}, "label": {"label": (chance > 0.5).astype(int)}}
    table.assign(**answers.get(form, {form: chance})).to_csv(tmp_path / "answers.csv", index=False)
    data = eyas.load_data(toy_fields, FIELDS)
    teacher = FileTeacher(tmp_path / "answers.csv", ["0", "1"], Columns(task="fields", text=",".join(NAMES)))
    logits = label_texts(teacher, data["train"], tmp_path / "labels").logits(ids_of(data["train"])[:1]).numpy()[0]
    clicked = data["train"][0]["label"] == 1
    odds = {"label": (19.0, 1 / 19)}.get(form, (4.0, 3 / 7))[0 if clicked else 1]
    np.testing.assert_allclose(logits, [-np.log(odds) / 2, np.log(odds) / 2], rtol=1e-4)
    quick = DistillSettings(StudentSettings("dagfm"), arguments=QUICK)
    student = eyas.distill(tmp_path / "answers.csv", toy_fields, tmp_path / "student", settings=quick, columns=FIELDS)
    assert isinstance(student.model, DAGFMForSequenceClassification)


@pytest.mark.parametrize("chance", [1.2, -0.1, "high"])
def test_file_with_other_numbers_is_refused(chance: Any, toy_fields: Path, tmp_path: Path) -> None:
    table = pandas.DataFrame(field_rows(600)).assign(probability=chance)
    table.drop(columns="click").to_csv(tmp_path / "answers.csv", index=False)
    with pytest.raises((DataError, LabelError)) as raised:
        eyas.distill(tmp_path / "answers.csv", toy_fields, tmp_path / "out", "dagfm", columns=FIELDS)
    assert "answers.csv:2" in str(raised.value)


def test_function_gets_rows(toy_fields: Path, tmp_path: Path) -> None:
    def chances(given: list[dict[str, str]]) -> Any:
        liked = np.array([int(row["user"]) % 2 == int(row["item"][1:]) % 2 for row in given])
        return np.stack([1 - 0.9 * liked, 0.9 * liked], 1)

    teacher = FunctionTeacher(chances, ["0", "1"], version="1", task=CLICKS)
    quick = DistillSettings(StudentSettings("dagfm"), arguments=QUICK)
    student = eyas.distill(teacher, toy_fields, tmp_path / "student", settings=quick, columns=FIELDS)
    assert student.predict([{"user": 1, "item": "i1", "site": "s"}]).shape == (1,)


def test_further_rows_are_labeled_too(toy_fields: Path, cin_folder: Path, tmp_path: Path, run: Run) -> None:
    more = pandas.DataFrame([{"site": "t", "user": n % 9, "item": "i1", "click": ""} for n in range(30)])
    more.to_csv(tmp_path / "more.csv", index=False)
    options: dict[str, Any] = {"unlabeled": tmp_path / "more.csv", "columns": FIELDS}
    quick = DistillSettings(StudentSettings("dagfm"), arguments=QUICK)
    student = eyas.distill(cin_folder, toy_fields, tmp_path / "student", settings=quick, **options)
    assert "site=t" not in student.tokenizer.get_vocab()  # the teacher's own, with its vectors
    entry = {"source": str(toy_fields), "task": "fields", "unlabeled": [str(tmp_path / "more.csv")]}
    plan = make_plan(data=entry, teacher=str(cin_folder), students=["dagfm"])
    loaded = load_entry(plan.datasets[0])
    rows = {row["text"] for row in loaded.transfer}  # no row is a near-duplicate of another
    assert {f"user={n}\titem=i1\tsite=t" for n in range(9)} <= rows
    arguments = ["--data", toy_fields, "--task", "fields", "--unlabeled", tmp_path / "more.csv"]
    assert run("label", "--teacher", cin_folder, *arguments, "--cache", tmp_path / "cache")[0] == 0
    more.drop(columns="item").to_csv(tmp_path / "more.csv", index=False)
    with pytest.raises(EyasError, match="no column 'item'"):
        eyas.distill(cin_folder, toy_fields, tmp_path / "out", settings=quick, **options)
