"""Teachers without a model: files of answers, functions; and several teachers as one."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import softmax
from tagging import sentences, write_conll
from toys import write_jsonl

import eyas
from eyas import CombinedTeacher, DistillSettings, FileTeacher, FunctionTeacher, Teacher, load_data
from eyas.data.datasets import ids_of
from eyas.errors import DataError, EyasError, LabelError, ModelError
from eyas.losses import SelectedTeachersLoss, WeightedTeachersLoss
from eyas.tasks import Task
from eyas.teachers import label_texts

Run = Callable[..., tuple[int, str, str]]
LABELS = ["negative", "positive"]
NAMES = ["a", "b", "c"]
SHORT = DistillSettings(arguments={"max_steps": 2})


def rows_of(folder: Path, *splits: str) -> list[dict[str, str]]:
    names = splits or ("train", "validation")
    return [json.loads(line) for name in names for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def chances(path: Path, texts: list[str], labels: list[str] = NAMES, **more: Any) -> np.ndarray:
    """What the file says of these texts."""
    dataset = eyas.load_unlabeled({"text": texts})
    logits = FileTeacher(path, labels, encoder="unused", **more).outputs({"example_id": ids_of(dataset)})["logits"]
    return np.exp(logits.numpy())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"probabilities": [0.2, 0.3, 0.5]}, [0.2, 0.3, 0.5]),
        ({"probs": {"c": 0.5, "a": 0.2, "b": 0.3}}, [0.2, 0.3, 0.5]),
        ({"scores": {"b": 0.8}}, [0.1, 0.8, 0.1]),  # the likeliest alone: the others share the rest
        ({"logits": [0.0, np.log(2), np.log(5)]}, [0.125, 0.25, 0.625]),
        ({"a": 0.2, "b": 0.3, "c": 0.5}, [0.2, 0.3, 0.5]),
        ({"answer": "b"}, [0.025, 0.95, 0.025]),
        ({"probabilities": "[0.2, 0.3, 0.5]"}, [0.2, 0.3, 0.5]),  # as in CSV
    ],
)
def test_file_has_answers_in_any_form(tmp_path: Path, row: dict[str, Any], expected: list[float]) -> None:
    write_jsonl(tmp_path / "answers.jsonl", [{"text": "some text", **row}])
    np.testing.assert_allclose(chances(tmp_path / "answers.jsonl", ["some text"])[0], expected, atol=1e-5)


def test_parquet_and_csv_hold_the_same(tmp_path: Path) -> None:
    table = {"text": ["one", "two"], "a": [0.7, 0.1], "b": [0.2, 0.1], "c": [0.1, 0.8]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "answers.parquet")
    (tmp_path / "answers.csv").write_text("text,a,b,c\none,0.7,0.2,0.1\ntwo,0.1,0.1,0.8\n")
    for name in ("answers.parquet", "answers.csv"):
        found = chances(tmp_path / name, ["two", "one"])
        np.testing.assert_allclose(found, [[0.1, 0.1, 0.8], [0.7, 0.2, 0.1]], atol=1e-5)


def test_answers_to_the_same_text_are_averaged(tmp_path: Path) -> None:
    rows = [{"text": "x", "answer": answer} for answer in ("a", "a", "b")]
    write_jsonl(tmp_path / "answers.jsonl", rows)
    found = chances(tmp_path / "answers.jsonl", ["x"], confidence=0.8)[0]
    np.testing.assert_allclose(found, [(0.8 * 2 + 0.1) / 3, (0.8 + 0.2) / 3, 0.1], atol=1e-5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"probabilities": [-0.1, 0.6, 0.5]}, r"answers.jsonl:1: .*no probabilities"),
        ({"probabilities": [0.2, 0.2, 0.2]}, "with the sum 1"),
        ({"probabilities": [20, 30, 50]}, "Divide percentages by 100"),
        ({"probabilities": {"a": 0.7, "b": 0.7}}, "no probabilities"),
        ({"probabilities": [float("nan"), 0.5, 0.5]}, "no probabilities"),
        ({"probabilities": [0.5, 0.5]}, "2 numbers, expected 3"),
        ({"probabilities": "high"}, "expected JSON"),
        ({"probabilities": {"a": "much"}}, "no number"),
        ({"probabilities": {"d": 1.0}}, "an answer for 'd', expected a, b, c"),
        ({"logits": {"a": 1.0}}, "finite logit for each"),
        ({"answer": "d"}, "the answer is 'd'"),
        ({"remark": "none"}, "no answers. Expected a column"),
    ],
)
def test_bad_answers_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    write_jsonl(tmp_path / "answers.jsonl", [{"text": "some text", **row}])
    with pytest.raises(EyasError, match=message):
        FileTeacher(tmp_path / "answers.jsonl", NAMES)


def test_confidence_is_above_chance(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "answers.jsonl", [{"text": "x", "answer": "a"}])
    with pytest.raises(DataError, match=r"--confidence\) is 0.3, expected above 0.33"):
        FileTeacher(tmp_path / "answers.jsonl", NAMES, confidence=0.3)


@pytest.fixture
def answers(toy_data: Path, tmp_path: Path) -> Path:
    rows = [{"text": row["text"], "answer": row["label"]} for row in rows_of(toy_data)]
    return write_jsonl(tmp_path / "answers.jsonl", rows)


def test_file_teaches_a_student(answers: Path, toy_data: Path, tiny_bert: Path, tmp_path: Path, run: Run) -> None:
    arguments = ("--teacher", answers, "--data", toy_data, "--encoder", tiny_bert, "--out", tmp_path / "student")
    code, _, err = run("distill", *arguments, "--student", "static", "--epochs", 40, "--learning-rate", 0.01)
    assert code == 0, err
    assert "the teacher 100.0" in err
    scores = eyas.evaluate(eyas.Classifier.from_pretrained(tmp_path / "student"), load_data(toy_data)["test"])
    assert scores["accuracy"] > 0.8
    settings = json.loads((tmp_path / "student" / "eyas.json").read_text())["settings"]
    assert settings["encoder"] == str(tiny_bert)


def test_texts_without_an_answer_are_left_out(toy_data: Path, tiny_bert: Path, tmp_path: Path, caplog: Any) -> None:
    rows = [{"text": row["text"], "answer": row["label"]} for row in rows_of(toy_data)]
    some = write_jsonl(tmp_path / "some.jsonl", rows[10:])
    eyas.distill(some, toy_data, tmp_path / "out", "static", settings=SHORT, encoder=str(tiny_bert))
    assert "no answer for 10 training texts" in caplog.text
    few = write_jsonl(tmp_path / "few.jsonl", rows[80:])
    with pytest.raises(DataError, match="answers 160 of 240 training texts, expected 80% or more"):
        eyas.distill(few, toy_data, tmp_path / "other", "static", settings=SHORT, encoder=str(tiny_bert))


def test_other_texts_of_the_file_are_learned_too(
    answers: Path, toy_data: Path, tiny_bert: Path, tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level("INFO", "eyas")
    with answers.open("a") as file:
        print(json.dumps({"text": "a text of its own", "answer": "positive"}), file=file)
    eyas.distill(answers, toy_data, tmp_path / "out", "static", settings=SHORT, encoder=str(tiny_bert))
    assert "240 train, 1 unlabeled" in caplog.text


def test_file_answers_no_other_texts(answers: Path, toy_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    for more in ({"unlabeled": {"text": ["new"]}}, {}):
        settings = DistillSettings(arguments={"max_steps": 2}, transfer=eyas.TransferSettings(augment=("tang:2",)))
        with pytest.raises(DataError, match="answers its own texts alone"):
            eyas.distill(
                *(answers, toy_data, tmp_path / "out", "static"),
                settings=SHORT if more else settings,
                encoder=str(tiny_bert),
                **more,
            )
    with pytest.raises(ModelError, match="FileTeacher gives"):
        eyas.distill(answers, toy_data, tmp_path / "out", "bert-tiny", recipe="tinybert", encoder=str(tiny_bert))


def test_file_has_no_answers_that_choose_a_checkpoint(
    answers: Path, toy_data: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    settings = DistillSettings(eyas.StudentSettings("bert", max_length=48), "pea-kd")
    with pytest.raises(ModelError, match="a file of answers cannot give them"):
        eyas.distill(answers, toy_data, tmp_path / "out", settings=settings, encoder=tiny_bert)


def test_file_may_answer_training_texts_alone(toy_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "answer": row["label"]} for row in rows_of(toy_data, "train")]
    alone = write_jsonl(tmp_path / "answers.jsonl", rows)
    eyas.distill(alone, toy_data, tmp_path / "out", "static", settings=SHORT, encoder=tiny_bert)
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("row", [{}, {"answer": None}, {"answer": ""}])
def test_rows_without_an_answer_are_left_out(tmp_path: Path, row: dict[str, Any], caplog: Any) -> None:
    path = write_jsonl(tmp_path / "answers.jsonl", [{"text": "x", "answer": "a"}, {"text": "y", **row}])
    assert FileTeacher(path, NAMES).texts == [("x",)]
    assert "1 rows have a text, but no answer" in caplog.text
    objects = [{"text": "x", "probabilities": {"a": 1}}, {"text": "y", "probabilities": {}}]
    assert FileTeacher(write_jsonl(path, objects), NAMES).texts == [("x",)]


def test_arguments_of_a_file_need_a_file(teacher_folder: Path, toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"No teacher takes encoder \(--encoder\): a file of answers or an exported folder does"
    ):
        eyas.distill(teacher_folder, toy_data, tmp_path / "out", "static", settings=SHORT, encoder="x")


def test_teacher_with_a_further_label_is_examined(tag_teacher_folder: Path, toy_tags: Path, tmp_path: Path) -> None:
    """The labels that only the teacher has are labels of the data that it is compared on."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "validation"):
        lines = (toy_tags / f"{name}.conll").read_text().splitlines()
        (data / f"{name}.conll").write_text("\n".join(re.sub(r"\b[BI]-LOC$", "O", line) for line in lines) + "\n")
    eyas.distill(tag_teacher_folder, data, tmp_path / "out", "static", settings=SHORT)
    assert (tmp_path / "out" / "model.safetensors").exists()


def says(texts: list[str]) -> np.ndarray:
    bad = np.array([any(word in text for word in ("awful", "boring", "dreadful", "dull")) for text in texts])
    return np.stack([np.where(bad, 0.9, 0.2), np.where(bad, 0.1, 0.8)], 1)


def test_function_teaches_a_student(toy_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    teacher = FunctionTeacher(says, LABELS, encoder=tiny_bert, max_length=48)
    data = load_data(toy_data)
    found = label_texts(teacher, data["validation"])
    expected = np.log(says(list(data["validation"]["text"])))
    np.testing.assert_allclose(found.logits(ids_of(data["validation"])).numpy(), expected, atol=1e-6)
    trained = eyas.distill(teacher, data, tmp_path / "out", "static", settings=SHORT)
    assert trained.predict_proba(["a great film"]).shape == (1, 2)
    with pytest.raises(ModelError, match="Pass a version"):
        assert FunctionTeacher(np.array, LABELS, encoder=tiny_bert).fingerprint
    other = FunctionTeacher(says, LABELS, version="2", encoder=tiny_bert)
    assert other.fingerprint != FunctionTeacher(says, LABELS, encoder=tiny_bert).fingerprint


def test_function_that_fails_on_one_text_is_named() -> None:
    def fails(texts: list[str]) -> list[list[float]]:
        return [[1 / len(text), 1 - 1 / len(text)] for text in texts]

    with pytest.raises(ModelError, match="on one of 2 texts, of which the first is 'one': ZeroDivisionError"):
        FunctionTeacher(fails, LABELS).outputs({"text": ["one", ""]})
    with pytest.raises(DataError, match="the teacher's function, for 'two'"):
        FunctionTeacher(lambda texts: [[0.5, 0.5], [np.nan, 1]], LABELS).outputs({"text": ["one", "two"]})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: np.ones((len(texts), 3)) / 3, r"array of \(2, 3\) for 2 texts, expected \(2, 2\)"),
        (lambda texts: np.ones((len(texts), 2)), "no probabilities"),
    ],
)
def test_function_that_returns_something_else_is_refused(function: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FunctionTeacher(function, LABELS).outputs({"text": ["one", "two"]})


def test_teachers_are_combined_by_rule(answers: Path, toy_data: Path, tiny_bert: Path) -> None:
    data = load_data(toy_data)
    ids = ids_of(data["train"])
    file = FileTeacher(answers, LABELS, encoder=tiny_bert)
    function = FunctionTeacher(lambda texts: says(texts)[:, ::-1], LABELS[::-1], encoder=tiny_bert)
    a = np.exp(label_texts(file, data["train"]).logits(ids).numpy())
    b = np.exp(label_texts(function, data["train"]).logits(ids).numpy())[:, ::-1]
    sure = [one.max(1, keepdims=True) for one in (a, b)]
    expected = {
        "mean": np.exp((np.log(a) + np.log(b)) / 2),
        "probabilities": (a + b) / 2,
        "confidence": (a * sure[0] + b * sure[1]) / (sure[0] + sure[1]),
    }
    for rule, wanted in expected.items():
        both = CombinedTeacher([file, function], rule)
        found = np.exp(label_texts(both, data["train"]).logits(ids).numpy())
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def _distance(logits: np.ndarray, teachers: list[tuple[list[int], list[float]]]) -> float:
    """Squared distance of logits to those of teachers, which are known up to a constant."""
    apart = [logits[labels] - np.log(told) for labels, told in teachers]
    return float(sum(((one - one.mean()) ** 2).sum() for one in apart))


@pytest.mark.parametrize(
    "teachers",
    [
        [([0, 1], [2 / 3, 1 / 3]), ([1, 2], [1 / 4, 3 / 4])],
        [([0, 1], [0.001, 0.999]), ([0, 2], [0.0001, 0.9999])],
        [([0, 1, 2], [0.2, 0.3, 0.5]), ([1, 3], [0.9, 0.1])],
        [([0, 1], [0.7, 0.3]), ([1, 2], [0.6, 0.4]), ([2, 0], [0.8, 0.2]), ([2, 3], [0.5, 0.5])],  # they disagree
    ],
)
def test_joined_teachers_are_as_close_as_can_be(teachers: list[tuple[list[int], list[float]]], tiny_bert: Path) -> None:
    """The minimum is found by scipy."""
    names = ["abcd"[label] for label in range(1 + max(label for labels, _ in teachers for label in labels))]
    made = [
        FunctionTeacher(
            lambda texts, told=told: np.array([told] * len(texts)), [names[i] for i in labels], encoder=tiny_bert
        )
        for labels, told in teachers
    ]
    both = CombinedTeacher(made, "joined")
    assert sorted(both.label_names) == names
    assert both.task.labels == tuple(both.label_names)
    order = [both.label_names.index(name) for name in names]
    found = both.outputs({"text": ["one", "two"]})["logits"].softmax(1).numpy()[:, order]
    best = minimize(lambda free: _distance(free, teachers), np.zeros(len(names)), tol=1e-12)
    np.testing.assert_allclose(found, np.tile(softmax(best.x), (2, 1)), atol=1e-4)


def test_joined_teachers_by_hand(tiny_bert: Path) -> None:
    """2 : 1 from the one and 1 : 3 from the other are 2 : 1 : 3."""
    told = {("a", "b"): [2 / 3, 1 / 3], ("c", "b"): [3 / 4, 1 / 4]}
    made = [
        FunctionTeacher(lambda texts, row=row: np.array([row] * len(texts)), [*names], encoder=tiny_bert)
        for names, row in told.items()
    ]
    both = CombinedTeacher(made, "joined")
    assert both.label_names == ["a", "b", "c"]
    found = both.outputs({"text": ["one"]})["logits"].softmax(1)
    np.testing.assert_allclose(found, [[1 / 3, 1 / 6, 1 / 2]], atol=1e-5)
    with pytest.raises(ModelError, match="compare teachers of the same labels"):
        both.outputs({"text": ["one"]}, ("logits", "each_logits"))
    with pytest.raises(ModelError, match="The recipe reinforced .* compares teachers of the same labels"):
        eyas.distill(made, {"text": ["one", "two"], "label": ["a", "b"]}, teachers="joined", recipe="reinforced")
    names = [FunctionTeacher(says, [f"LABEL_{a}", "LABEL_1"], encoder=tiny_bert) for a in (0, 2)]
    with pytest.raises(LabelError, match="Labels are joined by their names"):
        CombinedTeacher(names, "joined")


def test_joined_teachers_teach(tiny_bert: Path, tmp_path: Path) -> None:
    """One teacher knows bad and fair, the other fair and good; the data have all three."""
    texts = [f"{label} number {number}" for number in range(8) for label in ("bad", "fair", "good")]
    rows = {"text": texts, "label": [text.split()[0] for text in texts]}

    def teach(known: list[str]) -> FunctionTeacher:
        def answer(texts: list[str]) -> np.ndarray:
            found = np.array([[name in text for name in known] for text in texts]) + 0.02
            return np.asarray(found / found.sum(1, keepdims=True))

        return FunctionTeacher(answer, known, encoder=tiny_bert, version="1")

    teachers = [teach(["bad", "fair"]), teach(["fair", "good"])]
    found = label_texts(CombinedTeacher(teachers, "joined"), load_data(rows)["train"])
    ids, labels = ids_of(load_data(rows)["train"]), load_data(rows)["train"]["label"]
    np.testing.assert_array_equal(found.logits(ids).argmax(1), labels)
    trained = eyas.distill(teachers, rows, tmp_path / "out", "static", teachers="joined", settings=SHORT)
    assert trained.classifier.label_names == ["bad", "fair", "good"]


def test_another_combination_labels_nothing_again(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, run: Run
) -> None:
    second = Path(shutil.copytree(teacher_folder, tmp_path / "second"))
    both = ("--teacher", teacher_folder, "--teacher", second, "--data", toy_data, "--augment", "none")
    short = ("--student", "static", "--epochs", 1)
    code, _, err = run("distill", *both, *short, "--out", tmp_path / "one")
    assert code == 0, err
    code, _, err = run("distill", *both, *short, "--teachers", "confidence", "--out", tmp_path / "two")
    assert code == 0, err
    assert "labeling: 240/240" not in err


def test_teachers_that_do_not_fit_are_refused(teacher_folder: Path, tag_teacher_folder: Path, tiny_bert: Path) -> None:
    teacher = Teacher(teacher_folder)
    with pytest.raises(ModelError, match="Combine equal tasks"):
        CombinedTeacher([teacher, Teacher(tag_teacher_folder)])
    with pytest.raises(LabelError, match="Not all teachers have bad, good, negative, positive"):
        CombinedTeacher([teacher, FunctionTeacher(says, ["bad", "good"], encoder=tiny_bert)])
    with pytest.raises(LabelError, match="of negative, positive and of bad, good cannot be joined"):
        CombinedTeacher([teacher, FunctionTeacher(says, ["bad", "good"], encoder=tiny_bert)], "joined")
    with pytest.raises(ModelError, match=re.escape("teachers (--teachers) is 'best', expected one of mean,")):
        CombinedTeacher([teacher, teacher], "best")
    with pytest.raises(ModelError, match="at least two teachers"):
        CombinedTeacher([teacher])


def right(texts: list[str]) -> np.ndarray:
    return says(texts)


def wrong(texts: list[str]) -> np.ndarray:
    return says(texts)[:, ::-1]


@pytest.mark.parametrize(("rule", "share"), [("sampled", 0.5), ("sampled:3,1", 0.75), ("sampled:0,1", 0.0)])
def test_sampled_teacher_answers_a_whole_batch(rule: str, share: float, tiny_bert: Path) -> None:
    teachers = [FunctionTeacher(one, LABELS, encoder=tiny_bert) for one in (right, wrong)]
    both = CombinedTeacher(teachers, rule)
    texts = ["a great film", "a dull film"]
    first = teachers[0].outputs({"text": texts})["logits"].float()
    torch.manual_seed(0)
    answers = [both.outputs({"text": texts})["logits"] for _ in range(400)]
    drawn = [bool(torch.equal(one, first)) for one in answers]
    assert all(torch.equal(one, first if own else first.flip(1)) for one, own in zip(answers, drawn, strict=True))
    assert np.mean(drawn) == pytest.approx(share, abs=0.1)  # 4 standard deviations


@pytest.mark.parametrize("shares", ["", "1", "1,2,3", "1,-1", "0,0", "a,b", "1,nan", "inf,1"])
def test_shares_of_sampled_teachers_are_checked(shares: str, teacher_folder: Path) -> None:
    teacher = Teacher(teacher_folder)
    with pytest.raises(ModelError, match="expected 2 numbers, such as sampled:2,1"):
        CombinedTeacher([teacher, teacher], f"sampled:{shares}")


@pytest.mark.parametrize(("rule", "recipe"), [("label-loss", "mt-bert"), ("reinforced", "reinforced")])
def test_rule_that_is_a_recipe(
    rule: str, recipe: str, teacher_folder: Path, toy_data: Path, tmp_path: Path, tiny_bert: Path, run: Run
) -> None:
    """Of two teachers that contradict each other, the labels tell which is right."""
    data = load_data(toy_data)
    teachers = [FunctionTeacher(one, LABELS, encoder=tiny_bert) for one in (right, wrong)]
    settings = DistillSettings(arguments={"max_steps": 80}, recipe_options={"hard_weight": 0.0})
    trained = eyas.distill(teachers, data, tmp_path / "student", "static", teachers=rule, settings=settings)
    if rule == "label-loss":  # a policy needs more steps
        assert trained.evaluate(data["validation"])["accuracy"] > 0.75
    assert json.loads((tmp_path / "student" / "eyas.json").read_text())["settings"]["recipe"] == recipe
    with pytest.raises(ModelError, match=re.escape(f"{rule} is the recipe {recipe}, but recipe (--recipe) is dist")):
        eyas.distill(teachers, data, tmp_path / "other", "static", recipe="dist", teachers=rule)
    code, _, err = run(
        "distill", "--teacher", teacher_folder, "--data", toy_data, "--recipe", recipe, "--out", tmp_path
    )
    assert code == 2
    assert "needs several teachers" in err


def test_policy_learns_which_teacher_helps() -> None:
    """Two teachers, of which the second is always wrong; students of any opinion; the policy sees only rewards."""
    torch.manual_seed(0)
    labels = torch.arange(64) % 2
    sure = torch.nn.functional.one_hot(labels, 2) * 4.0
    each = torch.stack([sure, sure.flip(1)], 2)
    loss = SelectedTeachersLoss()
    loss.prepare(SimpleNamespace(id2label="ab"), SimpleNamespace(teachers="ab"))
    optimizer = torch.optim.Adam(loss.parameters(), 0.05)
    logits = sure * 0.25
    for _ in range(300):
        optimizer.zero_grad()
        logits = sure * 0.25 + torch.randn(64, 2)
        loss({"logits": logits}, {"each_logits": each}, {"labels": labels}).backward()
        optimizer.step()
    used = loss.policy(loss.states(logits, each, labels)).sigmoid().mean(0)
    assert used[0] > 0.6
    assert used[1] < 0.2


def test_teacher_counts_by_its_mean_error_where_there_is_no_label() -> None:
    """By hand: errors of 1 and 3 before, so 1 / (1 + 2); never seen, all alike."""
    each = torch.tensor([[[0.0], [0.5413248546]], [[0.0], [-2.9489230532]]])  # the second label's error: log(1 + e^-x)
    student = {"logits": torch.tensor([[0.0, 0.0]] * 2)}
    loss = WeightedTeachersLoss()
    loss.prepare(None, SimpleNamespace(teachers="a"))
    per_text = float(np.log(2))  # the cross-entropy of a student that knows nothing
    nobody = {"labels": torch.tensor([-1, -1])}
    assert loss(student, {"each_logits": each}, nobody).item() == pytest.approx(per_text)
    told = loss(student, {"each_logits": each}, {"labels": torch.tensor([0, 1])}).item()
    assert told == pytest.approx(per_text * (1 / 2 + 1 / 4) / 2, rel=1e-4)
    assert loss(student, {"each_logits": each}, nobody).item() == pytest.approx(per_text / 3, rel=1e-4)


def test_several_teachers_need_one_label_per_text() -> None:
    with pytest.raises(ModelError, match="for texts with one label"):
        SelectedTeachersLoss().check(Task("multi-label", ("a", "b")))


@pytest.mark.process
def test_how_to_distill_an_llm_runs(
    toy_data: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "distill-an-llm.md").read_text()
    (tmp_path / "texts.txt").write_text("\n".join(row["text"] for row in rows_of(toy_data)) + "\n")
    shutil.copytree(toy_data, tmp_path / "checked")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "distill-an-llm.md", "exec"), {})
    for line in re.findall(r"^eyas (.*)$", page, re.MULTILINE):
        words = line.split()
        if words[0] == "serve":
            continue
        words += ["--encoder", str(tiny_bert), "--epochs", "30"] if words[0] == "distill" else []
        assert run(*words)[0] == 0
    assert eyas.evaluate(eyas.Predictor("shipped"), load_data("checked")["test"])["accuracy"] > 0.6


def test_file_of_answers_cannot_teach_a_tagger(tmp_path: Path) -> None:
    write_conll(tmp_path / "train.conll", sentences(30))
    answers = write_jsonl(tmp_path / "answers.jsonl", [{"text": "a", "answer": "O"}])
    with pytest.raises(DataError, match="cannot teach a tagger"):
        eyas.distill(answers, tmp_path / "train.conll", tmp_path / "out", settings=SHORT)
