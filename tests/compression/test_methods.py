"""Methods by name: what is read, and what is refused before any work."""

from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertForSequenceClassification

import eyas
from eyas import StudentSettings, Teacher, load_data
from eyas.compression import Compress, check_methods, parse_methods
from eyas.compression.modules import matrices
from eyas.errors import ModelError
from eyas.models import EnsembleForSequenceClassification
from eyas.models.ensemble import EnsembleConfig
from eyas.settings import DistillSettings
from eyas.training.distill import distill
from eyas.training.recipes import make_stages


def test_methods_are_read_with_their_rules() -> None:
    found = parse_methods(["low-rank:budget:0.25", "heads:0.5", "ternary:layer"])
    assert [(one.name, one.share, one.rule) for one in found] == [
        ("low-rank", 0.25, "budget"),
        ("heads", 0.5, "share"),
        ("ternary", 0.0, "layer"),
    ]


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["low-rank:0"], "'low-rank:0', expected a share between 0 and 1"),
        (["low-rank:1"], "expected a share between 0 and 1"),
        (["prune:1.5"], "expected a share between 0 and 1"),
        (["low-rank:nan"], "expected a share between 0 and 1"),
        (["low-rank"], "expected a share between 0 and 1, such as low-rank:0.25"),
        (["prune:budget:0.5"], "expected a share between 0 and 1, such as prune:0.5"),
        (["ternary:0.5"], "expected ternary or ternary:layer"),
        (["svd:0.5"], r"'svd:0.5', expected one of low-rank:0.25, .*int8"),
        (["ternary", "int8"], "ternary and int8, expected one of a kind"),
        (["int8", "int8"], "int8 twice"),
        (["ternary", "low-rank:0.5"], "Expected low-rank:0.5, ternary"),
        (["shared", "heads:0.5"], "shared goes with prune and few bits alone"),
    ],
)
def test_bad_methods_are_refused_with_what_was_expected(methods: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_methods(methods)


def test_what_cannot_be_compressed_is_refused_before_any_text_is_labeled(
    teacher_folder: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, data = Teacher(teacher_folder, max_length=64), load_data(toy_data)
    monkeypatch.setattr("eyas.training.run.DistillationRun.prepare", lambda *_: pytest.fail("work started"))
    for settings, message in (
        (StudentSettings("bert", layers=1, compress=("shared",)), "1 layers, expected an even number"),
        (StudentSettings("cnn", compress=("ternary",)), "needs a transformer that starts from the teacher's layers"),
        (StudentSettings("bert", init="random", compress=("ternary",)), "starts from the teacher's layers"),
        (StudentSettings("bert-tiny", compress=("ternary",)), "starts from the teacher's layers"),
    ):
        with pytest.raises(ModelError, match=message):
            distill(teacher, data, tmp_path / "out", DistillSettings(settings, "logit-mse"))


def test_model_is_not_compressed_twice(teacher_folder: Path) -> None:
    model: Any = Teacher(teacher_folder, max_length=64).model
    model.config.eyas_compression = ["ternary"]
    with pytest.raises(ModelError, match=r"compressed before \(ternary\).*give all methods at once"):
        check_methods(parse_methods(["int4"]), model)


def test_compress_without_methods_is_refused(teacher_folder: Path, toy_data: Path) -> None:
    with pytest.raises(ModelError, match="no methods"):
        eyas.compress(teacher_folder, [], toy_data)


def test_methods_of_student_and_recipe_are_checked_together(teacher_folder: Path, toy_data: Path) -> None:
    teacher, data = Teacher(teacher_folder, max_length=64), load_data(toy_data)
    for compress, recipe, message in (
        (("low-rank:0.5",), "ladabert", "low-rank twice"),
        (("ternary",), "ladabert", "a later method would undo an earlier one"),
        (("int4",), "ternarybert", "int4 and ternary, expected one of a kind"),
        (("low-rank:0.5",), "pea-kd", "shared goes with"),
    ):
        settings = DistillSettings(StudentSettings("bert", compress=compress, max_length=48), recipe)
        with pytest.raises(ModelError, match=message):
            distill(teacher, data, Path("out"), settings)


def test_ensembles_are_refused(students: dict[tuple[str, bool], Path], toy_data: Path, tmp_path: Path) -> None:
    model = EnsembleForSequenceClassification(EnsembleConfig(members=["cnn", "static"], vocab_size=40, num_labels=2))
    with pytest.raises(ModelError, match="An ensemble cannot be compressed. Leave members out"):
        check_methods(parse_methods("ternary"), model)


def test_a_head_as_wide_as_the_model_is_the_only_matrix_left_out() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=32, **sizes))
    names = {matrix.name for matrix in matrices(model)}
    assert "bert.encoder.layer.0.attention.self.query" in names
    assert "classifier" not in names


def test_all_output_layers_of_an_ensemble_are_left_out() -> None:
    """`export --int4` rounds what is left."""
    model = EnsembleForSequenceClassification(EnsembleConfig(members=["cnn", "static"], vocab_size=40, num_labels=6))
    assert {name.rpartition(".")[2] for name in {matrix.name for matrix in matrices(model)}} >= {"hidden"}
    assert not [matrix.name for matrix in matrices(model) if matrix.weight.shape[0] == 6]


def test_the_last_stage_alone_trains_a_model_as_small() -> None:
    """It is the control of an exam: what the other stages bring, at the same size."""
    for recipe, methods in (("pea-kd", ("shared",)), ("ladabert", ("low-rank:0.5", "prune:0.5"))):
        (last,) = make_stages(recipe, {"stages": "last"})
        assert isinstance(last.before, Compress)
        assert last.before.methods == methods
    (last,) = make_stages("tinybert", {"stages": "last"})
    assert last.before is None


def test_weights_of_recipes_that_compress_may_change() -> None:
    *_, last = make_stages("pea-kd", {"hard_weight": "linear:1:0"})
    weights: list[Any] = [loss.weight for loss in last.losses]
    assert [[weight(progress) for weight in weights] for progress in (0.0, 0.25, 1.0)] == [[1, 0], [0.75, 0.25], [0, 1]]
    with pytest.raises(ModelError, match="hard_weight=2, expected at most 1"):
        make_stages("pea-kd", {"hard_weight": 2.0})
    with pytest.raises(ModelError, match="scales=row is for ternary weights, but bits=int4"):
        make_stages("ternarybert", {"bits": "int4", "scales": "row"})


def test_one_method_needs_no_list() -> None:
    assert StudentSettings("bert", compress="ternary").compress == ("ternary",)  # type: ignore[arg-type]
