"""The command line: commands, bad input, streams."""

import gzip
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import toy_rows, write_jsonl

from eyas import RECIPES
from eyas.cli import _resume

Run = Callable[..., tuple[int, str, str]]


def test_commands_accept_output_of_the_previous_command(
    tiny_bert: Path, toy_data: Path, tmp_path: Path, run: Run
) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    options = ("--epochs", 1, "--learning-rate", 1e-3, "--batch-size", 8, "--quiet")
    code, out, err = run("finetune", "--model", tiny_bert, "--data", toy_data, "--out", teacher, *options)
    assert (code, out) == (0, "")
    assert "linear model on words and characters (100.0)" in err  # this teacher hardly trained
    code, _, err = run("label", "--teacher", teacher, "--data", toy_data)
    assert "--augment neighbors:10" in err
    assert "The logits of" in err
    code, _, err = run("label", "--teacher", teacher, "--data", toy_data, "--augment", "none")
    sizes = ("--student", "cnn", "--epochs", 1, "--augment", "none")
    code, _, err = run("distill", "--teacher", teacher, "--data", toy_data, "--out", student, *sizes)
    assert code == 0
    assert "labeling: 60/60" in err  # the validation texts, to examine the teacher
    assert "labeling: 240/240" not in err  # already done by label
    code, out, _ = run("evaluate", "--model", student, "--data", toy_data, "--teacher", teacher, "--json", "--quiet")
    scores = json.loads(out)
    assert scores["split"] == "test"
    assert scores["retention"] == pytest.approx(scores["accuracy"] / scores["teacher_accuracy"])


def test_exported_student_predicts_same_labels_as_student(
    students: dict[tuple[str, bool], Path], tmp_path: Path, run: Run
) -> None:
    student, shipped = students["cnn", False], tmp_path / "shipped"
    code, _, err = run("export", "--model", student, "--out", shipped, "--int8")
    assert code == 0
    assert "of the answers agree" in err
    texts = write_jsonl(tmp_path / "texts.jsonl", [{"text": "a great film", "id": 7}, {"text": "i found it boring 5"}])
    expected = None
    for model in (student, shipped):
        code, out, _ = run("predict", "--model", model, texts)
        answers = [json.loads(line) for line in out.splitlines()]
        assert answers[0]["id"] == 7
        labels = [answer["label"] for answer in answers]
        assert expected in (None, labels)
        expected = labels
    assert expected == ["positive", "negative"]


@pytest.mark.process
def test_predict_streams_its_answers(exported: dict[tuple[str, bool, bool], Path]) -> None:
    """Each answer arrives before the next text is sent."""
    command = [sys.executable, "-m", "eyas", "predict", "--model", str(exported["cnn", False, True])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line, label in ((b"a great film\n", "positive"), (b'{"text": "awful \\ud800", "id": 1}\n', "negative")):
            process.stdin.write(line)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"] == label
        process.stdin.write(b"caf\xff\n\n")
        process.stdin.close()
        rest = [json.loads(line) for line in process.stdout]
        assert [row["text"] for row in rest] == ["caf\ufffd", ""]
    assert process.returncode == 0


def test_predict_says_once_that_texts_are_cut(
    exported: dict[tuple[str, bool, bool], Path], tmp_path: Path, run: Run
) -> None:
    (tmp_path / "in.txt").write_text("a great film\n" + "a great film " * 40 + "\n" + "awful " * 90 + "\n")
    code, out, err = run("predict", "--model", exported["cnn", False, True], tmp_path / "in.txt")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert err.count("2 texts have more tokens than the 48 that the model reads") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"text": 3}', "expected a text"), ('{"text"', "does not parse"), ('{"other": "x"}', "expected a text")],
)
def test_predict_error_names_the_line(
    line: str, message: str, exported: dict[tuple[str, bool, bool], Path], tmp_path: Path, run: Run
) -> None:
    (tmp_path / "in").write_text(f"fine\n{line}\n")
    code, out, err = run("predict", "--model", exported["cnn", False, True], tmp_path / "in")
    assert code == 2
    assert len(out.splitlines()) == 1
    assert f"in:2: {message}" in err or ("in:2" in err and message in err)


def test_evaluate_accepts_pairs(
    students: dict[tuple[str, bool], Path], toy_pairs: Path, pair_teacher_folder: Path, run: Run
) -> None:
    arguments = ("--model", students["bilstm", True], "--data", toy_pairs, "--teacher", pair_teacher_folder, "--json")
    code, out, _ = run("evaluate", *arguments)
    assert code == 0
    assert json.loads(out)["agreement"] > 0.8


def test_commands_explain_bad_input_with_exit_code_2(
    toy_data: Path, teacher_folder: Path, tmp_path: Path, run: Run
) -> None:
    out = ("--out", tmp_path / "out")
    cases = [
        (("distill", "--teacher", teacher_folder, "--data", toy_data, "--text", "txet", *out), "Did you mean 'text'"),
        (("distill", "--teacher", tmp_path / "none", "--data", toy_data, *out), "none: no such model folder"),
        (("distill", "--teacher", teacher_folder, "--data", tmp_path / "none.csv", *out), "No such file"),
        (("distill", "--teacher", teacher_folder, "--data", toy_data, "--embedding-size", 64, *out), "larger than"),
        (("distill", "--teacher", teacher_folder, "--data", toy_data, "--unlabeled", tmp_path / "u", *out), "No such"),
        (("evaluate", "--model", teacher_folder, "--data", toy_data, "--split", "tset"), "no split 'tset'"),
        (("export", "--model", tmp_path, *out), "config.json"),
        (("predict", "--model", tmp_path), "config.json"),
        (("distill", "--teacher", teacher_folder, "--data", toy_data, "--out", "."), "the folder you are in"),
        (("distill", "--teacher", teacher_folder, "--data", toy_data, "--batch-size", 0, *out), "batch-size"),
        (("label", "--teacher", teacher_folder, "--data", toy_data, "--teacher-dtype", "fp16"), "float32"),
        (("exam", "--text", "sentence", "--teacher", teacher_folder, *out), "--text describes --data"),
    ]  # fmt: skip
    for arguments, message in cases:
        code, _, err = run(*arguments)
        assert code == 2, arguments
        assert message in err
        assert "Traceback" not in err
        assert not (tmp_path / "out").exists()


def test_serve_refuses_a_port_in_use(exported: dict[tuple[str, bool, bool], Path], run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = run("serve", exported["cnn", False, False], "--port", port)
    assert code == 2
    assert f"error: Cannot listen on port {port} of 127.0.0.1: Address already in use. Choose another --port" in err


def test_serve_names_the_folder_and_the_address(
    exported: dict[tuple[str, bool, bool], Path], monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """Of `.` the folder's name; an IPv6 address in brackets."""
    monkeypatch.setattr("uvicorn.run", lambda *_, **options: None)
    monkeypatch.chdir(exported["cnn", False, False])
    _, _, err = run("serve", ".", "--host", "::1", "--port", 8765)
    assert f"Serving {exported['cnn', False, False].name} on http://[::1]:8765" in err


def test_predict_refuses_single_text_for_pair_model(
    exported: dict[tuple[str, bool, bool], Path], students: dict[tuple[str, bool], Path], tmp_path: Path, run: Run
) -> None:
    (tmp_path / "in").write_text("\ufeff" + json.dumps({"text": "a", "text_pair": "b", "id": 1}) + "\nalone\n")
    for model in (exported["cnn", True, False], students["cnn", True]):
        code, out, err = run("predict", "--model", model, tmp_path / "in")
        assert code == 2
        assert json.loads(out)["id"] == 1
        assert "in:2: This model reads two texts at a time, got one" in err


def test_predict_reads_compressed_lines_and_refuses_tables(
    exported: dict[tuple[str, bool, bool], Path], tmp_path: Path, run: Run
) -> None:
    model = exported["cnn", False, False]
    (tmp_path / "in.txt.gz").write_bytes(gzip.compress(b"a great film\n"))
    code, out, _ = run("predict", "--model", model, tmp_path / "in.txt.gz")
    assert (code, json.loads(out)["text"]) == (0, "a great film")
    (tmp_path / "in.csv").write_text("text\na great film\n")
    (tmp_path / "lines").write_bytes("a great film\n".encode("utf-16"))
    code, out, _ = run("predict", "--model", model, tmp_path / "lines")
    assert (code, json.loads(out)["text"]) == (0, "a great film")
    (tmp_path / "lines").write_bytes(b"PK\x03\x04 and so on")
    shutil.copy(tmp_path / "in.csv", tmp_path / "IN.CSV")
    (tmp_path / "in.pdf").write_bytes(b"%PDF-1.7\nand so on")
    (tmp_path / "in.jsonl").write_text('[{"text": "a great film"}]')
    (tmp_path / "array.txt").write_text('[\n  {"text": "a great film"}\n]')
    for name, message in (
        ("in.csv", "is a table (.csv), expected lines of text or JSON"),
        ("IN.CSV", "is a table (.csv)"),
        ("lines", "is a zip file"),
        ("in.pdf", "is a PDF"),
        ("in.jsonl", "is a JSON array"),
        ("array.txt", "is a JSON array"),
    ):
        code, out, err = run("predict", "--model", model, tmp_path / name)
        assert (code, out) == (2, "")
        assert f"{tmp_path / name} {message}" in err
    (tmp_path / "deep.jsonl").write_text('{"text": "a", "b": ' + "[" * 5_000 + "]" * 5_000 + "}")
    code, _, err = run("predict", "--model", model, tmp_path / "deep.jsonl")
    assert code == 2
    assert "deep.jsonl:1: " in err


def test_distill_refuses_data_with_one_class(teacher_folder: Path, tmp_path: Path, run: Run) -> None:
    rows = [{**row, "label": "positive"} for row in toy_rows(30)]
    data = write_jsonl(tmp_path / "all.jsonl", rows)
    code, _, err = run("distill", "--teacher", teacher_folder, "--data", data, "--out", tmp_path / "out")
    assert code == 2
    assert "Every training row has the label 'positive'" in err


def test_command_names_missing_extra(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.startswith("eyas.data.datasets")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "datasets", None)
    code, _, err = run("evaluate", "--model", tmp_path, "--data", tmp_path)
    assert code == 2
    assert "pip install '.[train]'" in err


def test_help_and_version_are_printed(run: Run) -> None:
    for command in ("finetune", "label", "distill", "evaluate", "predict", "export", "demo"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert "Usage" in out
    assert run("--version")[1].startswith("eyas ")
    code, _, err = run("distill")
    assert code == 2
    assert "Missing option" in err


@pytest.mark.process
def test_predict_ignores_closed_pipe(exported: dict[tuple[str, bool, bool], Path], tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a great film\n" * 20_000)
    model = exported["static", False, False]
    command = f"{sys.executable} -m eyas predict --model {model} {tmp_path / 'in'} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_distill_counts_validation_texts_seen_in_training(teacher_folder: Path, tmp_path: Path, run: Run) -> None:
    write_jsonl(tmp_path / "train.jsonl", toy_rows(40))
    write_jsonl(tmp_path / "validation.jsonl", toy_rows(10))
    arguments = ("--teacher", teacher_folder, "--data", tmp_path, "--out", tmp_path / "out")
    code, _, err = run("distill", *arguments, "--student", "static", "--epochs", 1, "--augment", "none")
    assert code == 0
    assert "10 of 10 validation texts" in err


def test_exam_lists_trials_and_refuses_options_beside_plan(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, run: Run
) -> None:
    options = ("--seeds", 2, "--student", "cnn", "--dry-run")
    code, out, _ = run("exam", "--teacher", teacher_folder, "--data", toy_data, *options)
    assert code == 0
    assert out.splitlines()[-1].startswith("8 trials: about ")
    assert f"{toy_data.name} · cnn · hard-labels · teacher embeddings · seed 1" in out
    (tmp_path / "plan.yaml").write_text("data: d\nteacher: t\n")
    code, _, err = run("exam", tmp_path / "plan.yaml", "--seeds", 2, "--text", "review")
    assert code == 2
    assert "cannot be combined with options, got data, seeds" in err
    code, _, err = run("exam", "--data", "d")
    assert code == 2
    assert "--teacher is missing" in err


def test_report_and_best_read_an_exam(exam: Path, tmp_path: Path, run: Run) -> None:
    assert run("report", exam, "--quiet") == (0, "", "")
    films = ("best", exam, "--dataset", "films")
    code, out, _ = run(*films, "--min-retention", 0.1, "--export", tmp_path / "shipped", "--json", "--quiet")
    assert code == 0
    assert json.loads(out)["kind"] == "student"
    assert (tmp_path / "shipped" / "exam.svg").is_file()
    code, _, err = run(*films, "--max-latency-ms", 0)
    assert code == 2
    assert "97% of the teacher within 0 ms" in err
    code, _, err = run("best", exam)
    assert code == 2
    assert "films, tags" in err


def test_recipes_lists_fields_that_they_read(run: Run) -> None:
    code, out, _ = run("recipes", "--json")
    assert code == 0
    rows = json.loads(out)
    assert rows.keys() == RECIPES.keys()
    assert rows["hard-labels"]["reads"] == []
    assert rows["tinybert"]["reads"] == ["hidden_states", "keys", "logits", "queries"]
    assert rows["tinybert"]["students"] == "transformers"
    assert rows["tinybert"]["needs"] == "with as many heads as the teacher"
    assert rows["theseus"]["needs"] == rows["simkd"]["needs"] == "as wide as the teacher"
    assert rows["minilmv2"]["needs"] == ""
    assert "Jiao et al. 2020" in run("recipes")[1]


def test_distill_ends_with_its_score_and_the_next_command(teacher_folder: Path, tmp_path: Path, run: Run) -> None:
    """What there is to say of the data is said once, though the last lines read it again."""
    write_jsonl(tmp_path / "films.jsonl", toy_rows(80))
    arguments = ("--teacher", teacher_folder, "--data", tmp_path / "films.jsonl", "--out", tmp_path / "out")
    code, _, err = run("distill", *arguments, "--student", "static", "--epochs", 1, "--augment", "none")
    assert code == 0
    assert err.count("split train with seed") == 1
    lines = err.splitlines()
    assert re.search(r"The student is in .*out, of epoch 1 of 1 \(validation \d", lines[-3])
    assert re.search(r"On 8 test texts: accuracy .* \(95 % interval .*\), .* % of the teacher's", lines[-2])
    assert lines[-1].startswith("Next: eyas export --model")


@pytest.mark.parametrize(("command", "said"), [("distill", "Finished work is kept"), ("predict", "does not resume")])
def test_stopped_command_says_whether_it_resumes(command: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["eyas", command, "--quiet"])
    assert said in _resume()
