"""Exported models that write: the same texts as in torch, without torch; the command line from data to predictions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, Once
from letters import TINY

from eyas import Predictor, export_model, push_to_hub
from eyas.errors import DataError, ExportError, ModelError
from eyas.exam.cascade import _check_alike
from eyas.generation import TextGenerator, distill, finetune, load_pairs
from eyas.generation.data import source_ids
from eyas.models.encoder_decoders import ScratchSizes, from_scratch
from eyas.runtime.generation import GenerationPredictor
from eyas.settings import DistillSettings, FinetuneSettings, StudentSettings

pytestmark = pytest.mark.process  # two conversions to ONNX, of some seconds each
Run = Callable[..., tuple[int, str, str]]
SEARCHES = [(1, 1.0, False), (3, 1.0, False), (3, 0.0, True), (2, 2.0, "never")]


@pytest.fixture(scope="session")
def shipped_writer(once: Once, writer_folder: Path) -> Path:
    return once("shipped-writer", lambda out: export_model(writer_folder, out))


@pytest.fixture(scope="session")
def sources(letter_data: Path) -> list[str]:
    return list(load_pairs(letter_data)["test"]["source"])


def _compare(original: Path, exported: Path, sources: list[str]) -> None:
    for beams, penalty, early in SEARCHES:
        theirs, ours = TextGenerator.from_pretrained(original, beams), GenerationPredictor(exported, beams=beams)
        theirs.model.generation_config.length_penalty = ours.manifest.length_penalty = penalty
        theirs.model.generation_config.early_stopping = ours.manifest.early_stopping = early
        assert ours.predict(sources) == theirs.predict(sources), (beams, penalty, early)


def test_exported_model_writes_as_torch(shipped_writer: Path, writer_folder: Path, sources: list[str]) -> None:
    _compare(writer_folder, shipped_writer, sources)


@pytest.mark.slow  # two more conversions each
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_other_families_write_as_torch(family: str, letter_data: Path, sources: list[str], tmp_path: Path) -> None:
    """Untrained, so texts are as long as they can be. BART begins with a word that is forced."""
    settings = FinetuneSettings(arguments=QUICK, max_length=12)
    folder = finetune(f"{family}:{TINY}", letter_data, tmp_path / "model", settings)
    if family == "bart":
        path = folder / "generation_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "forced_bos_token_id": 7}))
    export_model(folder, tmp_path / "shipped")
    _compare(folder, tmp_path / "shipped", sources[:8])


@pytest.mark.slow  # two more conversions
def test_grus_write_as_torch(writer_folder: Path, letter_data: Path, sources: list[str], tmp_path: Path) -> None:
    settings = DistillSettings(StudentSettings("gru", max_length=12), arguments=QUICK)
    folder = distill(str(writer_folder), letter_data, tmp_path / "model", settings)
    export_model(folder, tmp_path / "shipped")
    _compare(folder, tmp_path / "shipped", sources[:8])
    export_model(folder, tmp_path / "int8", int8=True, min_agreement=0.1)
    assert (tmp_path / "int8" / "decoder.onnx").stat().st_size < (tmp_path / "shipped" / "decoder.onnx").stat().st_size


def test_first_and_last_words_are_forced_as_in_torch(tmp_path: Path) -> None:
    """BART's usual search. The weights are large, so that some texts end early and others at the limit."""
    words = [f"{one} {other}" for one in "abcdefgh" for other in "ijkl"]
    model, tokenizer = from_scratch("bart", ScratchSizes(1, 16, 2, 16, 40), words, 12)
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.7)
    model.final_logits_bias[0, 1] = 4.0
    forced = {"forced_bos_token_id": 0, "forced_eos_token_id": 1, "max_length": 13}
    model.generation_config.update(**forced, num_beams=4, early_stopping=True, length_penalty=2.0)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "shipped", texts=[(text,) for text in words], min_agreement=0.9)
    writer, exported = TextGenerator.from_pretrained(tmp_path / "model"), GenerationPredictor(tmp_path / "shipped")
    lengths = set()
    for writer.beams, search in ((4, exported._beam_search), (1, exported._greedy)):
        for text in words:
            expected = writer.ids(source_ids([text], tokenizer, 12))[0].tolist()[1:]
            assert search(exported._ids(text)) == expected
            lengths.add(len(expected))
    assert max(lengths) == 12 > min(lengths)


def test_predictor_opens_exported_writers(shipped_writer: Path, sources: list[str]) -> None:
    predictor = Predictor(shipped_writer)
    assert f'Predictor("{shipped_writer.name}")' in (shipped_writer / "README.md").read_text()
    assert isinstance(predictor, GenerationPredictor)
    assert predictor(["a b"]) == [{"generated_text": predictor.predict(["a b"])[0]}]
    with pytest.raises(DataError, match="Text 1 is int"):
        predictor(["a", 1])  # type: ignore[list-item]
    with pytest.raises(DataError, match="writes texts: it has no labels with probabilities"):
        predictor.predict_proba(sources)
    with pytest.raises(ModelError, match="does generation: it has no confidence that a cascade could go by"):
        _check_alike([predictor, predictor], [shipped_writer] * 2)


def test_int8_is_smaller_and_changed_files_are_refused(
    shipped_writer: Path, writer_folder: Path, tmp_path: Path
) -> None:
    export_model(writer_folder, tmp_path / "int8", int8=True, min_agreement=0.3)
    assert json.loads((tmp_path / "int8" / "manifest.json").read_text())["precision"] == "int8"
    with open(tmp_path / "int8" / "decoder.onnx", "ab") as file:
        file.write(b"\0")
    with pytest.raises(ExportError, match=r"decoder\.onnx is not the file that was exported"):
        Predictor(tmp_path / "int8")


def test_searches_that_the_runtime_lacks_are_refused(writer_folder: Path, tmp_path: Path) -> None:
    writer = TextGenerator.from_pretrained(writer_folder)
    writer.model.generation_config.no_repeat_ngram_size = 3
    writer.model.save_pretrained(tmp_path / "model")
    writer.tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ExportError, match=r"no_repeat_ngram_size=3, which the exported model cannot"):
        export_model(tmp_path / "model", tmp_path / "out", texts=[("a b",)])
    with pytest.raises(ExportError, match="writes texts: export it, and push the exported folder"):
        push_to_hub(writer_folder, "user/name")
    with pytest.raises(ExportError, match=r"writes texts: leave web \(--web\) out"):
        export_model(writer_folder, tmp_path / "out", web=True)


def test_commands_from_data_to_predictions(letter_data: Path, tmp_path: Path, run: Run) -> None:
    short = ("--epochs", 1, "--max-length", 12, "--batch-size", 32)
    teacher, student, shipped = tmp_path / "teacher", tmp_path / "student", tmp_path / "shipped"
    model, task = ("--model", f"marian:{TINY}"), ("--task", "generation")
    code, _, err = run("finetune", *task, *model, "--data", letter_data, "--out", teacher, *short)
    assert code == 0, err
    assert "BLEU" in err
    asked = (
        "--teacher",
        teacher,
        "--data",
        letter_data,
        "--out",
        student,
        "--recipe",
        "word-kd",
        "--option",
        "top_k=4",
    )
    code, _, err = run("distill", *task, *asked, "--layers", 2, "--decoder-layers", 2, *short)
    assert code == 0, err
    assert "Next: eyas export" in err
    code, out, _ = run("evaluate", "--model", student, "--data", letter_data, "--teacher", teacher, "--json", "-q")
    scores = json.loads(out)
    assert code == 0
    assert {"bleu", "chrf", "teacher_bleu", "retention"} <= scores.keys()
    code, _, err = run("export", "--model", student, "--out", shipped, "--beams", 2)
    assert code == 0, err
    assert "of the words agree" in err
    assert Predictor(shipped).beams == 2
    texts = tmp_path / "in.jsonl"
    texts.write_text('a b c\n{"text": "d e", "id": 3}\n')
    expected: Any = None
    for folder in (student, shipped):
        code, out, err = run("predict", "--model", folder, texts, "--beams", 2)
        assert code == 0, err
        rows = [json.loads(line) for line in out.splitlines()]
        assert [row.get("id") for row in rows] == [None, 3]
        assert expected in (None, [row["generated_text"] for row in rows])
        expected = [row["generated_text"] for row in rows]
    code, out, err = run("evaluate", "--model", shipped, "--data", letter_data, "-q")
    assert code == 0, err
    assert "bleu" in out
    code, _, err = run("predict", "--model", shipped, texts, "--all-scores")
    assert (code, "writes texts" in err) == (2, True)


def test_exported_writer_runs_without_torch(shipped_writer: Path) -> None:
    from test_imports import _modules_after

    loaded = _modules_after(f"from eyas import Predictor\nPredictor({str(shipped_writer)!r}, beams=2)(['a b'])")
    assert not loaded & {"torch", "transformers", "datasets", "pyarrow", "pandas"}


def test_encoders_are_no_writers(tiny_bert: Path, letter_data: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run(
        "distill", "--task", "generation", "--teacher", tiny_bert, "--data", letter_data, "--out", tmp_path / "out"
    )
    assert code == 2
    assert "has no decoder" in err or "expected a model that writes" in err


def test_exported_writers_are_served(shipped_writer: Path, sources: list[str]) -> None:
    from starlette.testclient import TestClient

    from eyas.serve.app import create_app

    expected, name = Predictor(shipped_writer)(sources[:2]), shipped_writer.name
    with TestClient(create_app([shipped_writer])) as client:
        assert client.post("/predict", json={"inputs": sources[:2]}).json() == expected
        assert client.post("/predict", json={"inputs": sources[0]}).json() == expected[:1]
        refused = client.post("/predict", json={"inputs": sources[0], "parameters": {"top_k": 1}})
        assert (refused.status_code, "This model writes" in refused.json()["error"]) == (422, True)
        tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": sources[:2]}
        (output,) = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}).json()["outputs"]
        assert (output["name"], output["data"]) == ("generated_text", [row["generated_text"] for row in expected])
        assert client.get(f"/v2/models/{name}").json()["outputs"][0]["name"] == "generated_text"
        (about,) = client.get("/models").json()["models"]
        assert (about["task"], about["labels"], len(about["examples"])) == ("generation", [], 4)
        assert "PredictSources" in client.get("/openapi.json").text
