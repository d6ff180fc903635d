"""The baseline on the vectors of the encoder that a teacher was made from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_EXAM, toy_rows
from sklearn.linear_model import LogisticRegression

from eyas import Predictor
from eyas.errors import ModelError
from eyas.exam.encoder_vectors import export_on_vectors
from eyas.exam.entries import inspect
from eyas.exam.origins import encoder_of
from eyas.exam.plan_file import make_plan
from eyas.exam.plan_parts import DataPlan
from eyas.exam.results import load_exam
from eyas.exam.run import run_exam
from eyas.exam.trials import ON_VECTORS, trials_of
from eyas.tasks import Task
from eyas.teachers import Encoder

ROWS = toy_rows(120)
TEXTS = [row["text"] for row in ROWS]
LABELS = np.array([int(row["label"] == "positive") for row in ROWS])
POLAR = Task("classification", ("negative", "positive"))


@pytest.mark.process
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_graph_answers_as_scikit_learn_on_the_vectors(pooling: str, tiny_bert: Path, tmp_path: Path) -> None:
    encoder = Encoder(tiny_bert, pooling=pooling, max_length=48, dtype="float32")  # type: ignore[arg-type]
    counts = export_on_vectors(encoder, POLAR, TEXTS, LABELS, tmp_path)
    vectors = encoder.logits(TEXTS)
    expected = LogisticRegression(max_iter=1000, C=4.0).fit(vectors, LABELS).decision_function(vectors)
    logits = Predictor(tmp_path, self_test=False).logits(TEXTS)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, atol=1e-3)
    assert sum(counts.values()) == encoder.model.num_parameters() + 2 * 32 + 2


def recorded(folder: Path, **settings: object) -> str:
    folder.mkdir()
    (folder / "eyas.json").write_text(json.dumps({"settings": settings}))
    return str(folder)


def files(model: Path) -> list[list[object]]:
    return [[str(model / "1_Pooling" / "config.json"), 1], *([str(path), 1] for path in model.iterdir())]


def test_encoder_of_a_teacher_is_the_one_that_finetune_recorded(
    tiny_bert: Path, students: dict[tuple[str, bool], Path], tmp_path: Path
) -> None:
    own, student = files(tiny_bert), files(students["cnn", False])
    # A relative name was relative to another folder.
    teacher = recorded(tmp_path / "a", command="finetune", model="tiny", model_files=own)
    assert encoder_of(teacher) == str(tiny_bert)
    assert encoder_of(recorded(tmp_path / "b", command="distill", model="tiny", model_files=own)) is None
    assert encoder_of(recorded(tmp_path / "c", command="finetune", model="far/away", model_files=[])) is None
    assert encoder_of(recorded(tmp_path / "d", command="finetune", model="cnn", model_files=student)) is None
    assert encoder_of(str(tmp_path / "nowhere")) is None


def test_encoder_of_a_teacher_may_be_in_the_cache_of_the_hub(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub" / "models--org--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    shutil.copytree(tiny_bert, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    teacher = recorded(tmp_path / "a", command="finetune", model="org/tiny", model_files=[])
    assert encoder_of(teacher) == str(snapshot)


def test_only_whole_single_texts_have_the_baseline(tiny_bert: Path) -> None:
    plan = make_plan(data={"source": "films", "encoder": str(tiny_bert)}, teacher="t")

    def names(task: Task, pairs: set[str]) -> set[str]:
        return {trial.model for trial in trials_of(plan, {"films": task}, pairs)}

    assert ON_VECTORS in names(POLAR, set())
    assert ON_VECTORS not in names(POLAR, {"films"})
    assert ON_VECTORS not in names(Task("tagging", ("O", "B-PER")), set())
    without = make_plan(data={"source": "films", "encoder": "none"}, teacher="t")
    assert ON_VECTORS not in {trial.model for trial in trials_of(without, {"films": POLAR})}


def test_encoder_that_cannot_be_read_is_refused_first(teacher_folder: Path, toy_data: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        inspect(DataPlan(source=str(toy_data), teacher=str(teacher_folder), encoder="/nowhere"))


@pytest.mark.process
def test_exam_has_the_encoder_as_a_baseline(
    teacher_folder: Path, tiny_bert: Path, toy_data: Path, tmp_path: Path
) -> None:
    """The plan that the exam writes leaves its path out, so that it runs on other machines."""
    teacher = Path(shutil.copytree(teacher_folder, tmp_path / "teacher"))
    record = {"settings": {"command": "finetune", "model": "tiny", "model_files": files(tiny_bert)}}
    (teacher / "eyas.json").write_text(json.dumps(record))
    data = {"source": str(toy_data), "augment": "none"}
    plan = make_plan(data=data, teacher=str(teacher), **{**SMALL_EXAM, "twins": False})
    table = load_exam(run_exam(plan, tmp_path / "exam", jobs=0)).set_index("model")
    assert "encoder:" not in (tmp_path / "exam" / "plan.yaml").read_text()
    row = table.loc[ON_VECTORS]
    assert row["kind"] == "baseline"
    assert 0.3 < row["score"] <= 1
    assert row["times_faster"] > 0
    assert row["size_bytes"] > 4 * row["embedding_parameters"]
