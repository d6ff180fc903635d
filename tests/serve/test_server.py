"""The server's answers, in this process: both protocols, every task, bad requests."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openapi import check_answers
from starlette.testclient import TestClient

from eyas import Predictor, export_model
from eyas.errors import ExportError
from eyas.serve.app import Server, create_app
from eyas.serve.limits import Limits
from eyas.serve.models import Models

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def folders(
    exported: dict[tuple[str, bool, bool], Path], taggers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("served")
    single, pair = exported["cnn", False, True], exported["static", True, False]
    export_model(taggers["static"], root / "tags", min_agreement=0.5)
    return {
        "films": Path(shutil.copytree(single, root / "films")),
        "pairs": Path(shutil.copytree(pair, root / "pairs")),
        "tags": root / "tags",
    }


@pytest.fixture(scope="module")
def client(folders: dict[str, Path]) -> Iterator[TestClient]:
    limits = Limits(body_bytes=20_000, texts=8, characters=5_000)
    with TestClient(create_app([folders["films"], folders["pairs"]], limits), raise_server_exceptions=False) as client:
        yield client


def test_predict_endpoint_answers_as_predictor(client: TestClient, folders: dict[str, Path]) -> None:
    texts = ["a great film", "awful", ""]
    expected = Predictor(folders["films"])(texts)
    found = client.post("/predict", json={"inputs": texts}).json()
    assert [row[0]["label"] for row in found] == [row["label"] for row in expected]
    assert [row[0]["score"] for row in found] == pytest.approx([row["score"] for row in expected])
    assert sum(answer["score"] for answer in found[0]) == pytest.approx(1.0)
    assert client.post("/predict", json={"inputs": texts[0]}).json() == [found[0]]
    assert client.post("/", json={"inputs": texts[0]}).json() == [found[0]]
    assert client.post("/predict", json={"inputs": {"text": texts[0]}}).json() == [found[0]]
    top = client.post("/predict", json={"inputs": texts, "parameters": {"top_k": 1}}).json()
    assert top == [row[:1] for row in found]
    assert client.post("/predict", json={"inputs": []}).json() == []


def test_predict_endpoint_accepts_pairs_and_model_names(client: TestClient, folders: dict[str, Path]) -> None:
    expected = Predictor(folders["pairs"])([("a great film", "awful")])[0]
    for row in ({"text": "a great film", "text_pair": "awful"}, ["a great film", "awful"]):
        found = client.post("/predict", json={"inputs": [row], "model": "pairs"}).json()[0]
        assert found[0]["label"] == expected["label"]
    flat = client.post("/predict", json={"inputs": ["a great film", "awful"], "model": "pairs"})
    assert flat.status_code == 422
    assert "got `str` - at `$.inputs[0]`. This model compares two texts" in flat.json()["error"]
    assert client.post("/predict", json={"inputs": "x", "model": "none"}).status_code == 404
    assert [model["name"] for model in client.get("/models").json()["models"]] == ["films", "pairs"]


def test_tagger_returns_spans(folders: dict[str, Path]) -> None:
    with TestClient(create_app([folders["tags"]])) as client:
        text = "anna lives in berlin"
        expected = Predictor(folders["tags"]).tag(text)["spans"]
        for inputs in (text, {"text": text}):
            assert client.post("/predict", json={"inputs": inputs}).json() == expected
        words = client.post("/predict", json={"inputs": {"tokens": text.split()}}).json()
        assert [span["entity_group"] for span in words] == [span["entity_group"] for span in expected]
        for inputs, says in (
            ({}, "Expected `object` of length >= 1 - at `$.inputs`"),
            ([{"text": text, "tokens": text.split()}], "Expected `object` of length <= 1 - at `$.inputs[0]`"),
            ({"words": text.split()}, "Invalid enum value 'words' - at `key` in `$.inputs`"),
        ):
            refused = client.post("/predict", json={"inputs": inputs})
            assert refused.status_code == 422
            assert says in refused.json()["error"]
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
        found = client.post("/v2/models/tags/infer", json={"inputs": [tensor]}).json()["outputs"][0]
        assert json.loads(found["data"][0]) == expected


def test_open_inference_protocol_describes_and_runs_models(client: TestClient, folders: dict[str, Path]) -> None:
    assert client.get("/v2").json()["name"] == "eyas"
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/films/ready", "/v2/models/films/versions/1/ready"):
        assert client.get(path).status_code == 200
    about = client.get("/v2/models/films").json()
    assert about["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in about["outputs"]] == ["label", "score", "probabilities"]
    texts = ["a great film", "awful"]
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": texts}
    found = client.post("/v2/models/films/versions/1/infer", json={"id": "7", "inputs": [tensor]}).json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("films", "1", "7")
    outputs = {output["name"]: output for output in found["outputs"]}
    predictor = Predictor(folders["films"])
    expected = predictor.task.probabilities(predictor.logits(texts))
    assert outputs["probabilities"]["shape"] == [2, 2]
    np.testing.assert_allclose(np.reshape(outputs["probabilities"]["data"], (2, 2)), expected, atol=1e-6)
    assert outputs["label"]["data"] == [predictor.label_names[column] for column in expected.argmax(1)]
    assert client.get("/v2/models/none").status_code == 404
    assert client.get("/v2/models/films/versions/9").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "not valid JSON"),
        (b'{"inputs": "caf\xe9"}', 400, "not valid JSON in UTF-8"),
        (b"[" * 5000 + b"]" * 5000, 400, "not valid JSON"),
        (b'{"inputs": ' + b"9" * 6000 + b"}", 400, "not valid JSON"),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b"{}", 422, "Object missing required field `inputs`"),
        (b'{"inputs": null}', 422, "Expected `str | object | array`, got `null` - at `$.inputs`"),
        (b'{"inputs": ["a", 3]}', 422, "Expected `str | object`, got `int` - at `$.inputs[1]`. `inputs` is a text"),
        (b'{"inputs": [["a"]]}', 422, "got `array` - at `$.inputs[0]`"),
        (b'{"inputs": true}', 422, "got `bool` - at `$.inputs`"),
        (b'{"inputs": "a", "parameters": {"top_k": 0}}', 422, "Expected `int` >= 1 - at `$.parameters.top_k`"),
        (b'{"inputs": "a", "parameters": {"top_k": true}}', 422, "Expected `int | null`, got `bool`"),
        (b'{"inputs": "a", "parameters": 3}', 422, "Expected `object | null`, got `int` - at `$.parameters`"),
        (b'{"inputs": "a", "other": 3}', 422, "Object contains unknown field `other`"),
        (b'{"inputs": "a", "\\ud800": 3}', 422, "surrogates not allowed"),
        (b'{"inputs": "a", "model": 3}', 422, "Expected `str | null`, got `int` - at `$.model`"),
        (b'{"inputs": [' + b'"a",' * 8 + b'"a"]}', 413, "Expected at most 8 texts in one request, got 9"),
        (b'{"inputs": "' + b"a" * 5001 + b'"}', 413, "more than 5,000 characters"),
        (b'{"inputs": "' + b"a" * 20_000 + b'"}', 413, "larger than 20,000 bytes"),
    ],
)
def test_predict_endpoint_explains_bad_requests(client: TestClient, body: bytes, status: int, says: str) -> None:
    response = client.post("/predict", content=body, headers=JSON)
    assert response.status_code == status
    assert says in response.json()["error"]
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (3, "`inputs` is a list of tensors"),
        ([3], "Expected `object`, got `int` - at `$.inputs[0]`"),
        ([{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}], "Expected the tensors text"),
        ([{"name": "text", "shape": [1], "datatype": "FP32", "data": [1.0]}], "datatype BYTES"),
        ([{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a"]}], "expected 1 texts and the shape [1]"),
        (
            [{"name": "text", "shape": [True], "datatype": "BYTES", "data": ["a"]}],
            "got `bool` - at `$.inputs[0].shape",
        ),
        ([{"name": "text", "shape": [1], "datatype": "BYTES", "data": [1]}], "got `int` - at `$.inputs[0].data[0]`"),
    ],
)
def test_infer_endpoint_explains_bad_tensors(client: TestClient, inputs: Any, says: str) -> None:
    response = client.post("/v2/models/films/infer", json={"inputs": inputs})
    assert response.status_code == 422
    assert says in response.json()["error"]


def test_predict_endpoint_answers_odd_texts(client: TestClient) -> None:
    odd = ["\ud800", "\x00", " ", "a" * 4000, "e\u0301" * 50, "\U0001f600"]
    body = json.dumps({"inputs": odd}).encode()
    response = client.post("/predict", content=body, headers=JSON)
    assert response.status_code == 200
    assert len(response.json()) == len(odd)


def test_predict_endpoint_refuses_too_many_words(folders: dict[str, Path]) -> None:
    with TestClient(create_app([folders["tags"]], Limits(words=100))) as client:
        response = client.post("/predict", json={"inputs": {"tokens": [""] * 101}})
        assert response.status_code == 413
        assert client.post("/predict", json={"inputs": {"tokens": [""] * 50}}).status_code == 200


def test_server_refuses_other_methods_paths_and_types(client: TestClient) -> None:
    assert client.get("/predict").status_code == 405
    assert client.get("/nothing").json() == {"error": "Not Found"}
    assert client.get("/v2/models/..%2f..%2fetc").status_code == 404
    assert client.post("/predict", content=b"inputs=a").status_code in (400, 415)
    form = client.post("/predict", content=b"inputs=a", headers={"content-type": "application/x-www-form-urlencoded"})
    assert form.status_code == 415
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")


def test_server_requires_key(folders: dict[str, Path]) -> None:
    with TestClient(create_app([folders["films"]], api_key="geheim")) as client:
        question = {"json": {"inputs": "a great film"}}
        assert client.post("/predict", **question).status_code == 401  # type: ignore[arg-type]
        assert client.get("/metrics").status_code == 401
        assert client.get("/health").status_code == 200
        for headers in ({"authorization": "Bearer geheim"}, {"x-api-key": "geheim"}):
            assert client.post("/predict", **question, headers=headers).status_code == 200  # type: ignore[arg-type]
        for name, value in (
            ("authorization", b"Bearer geheimer"),
            ("authorization", b"Basic geheim"),
            ("x-api-key", b"\xfc"),
        ):
            response = client.post("/predict", **question, headers=[(name.encode(), value)])  # type: ignore[arg-type]
            assert response.status_code == 401


def test_metrics_count_texts(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    def count(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith(f'{name}_total{{model="films"')]
        return float(found[0].rsplit(" ", 1)[1]) if found else 0.0

    caplog.set_level("INFO")
    before, cut = count("eyas_texts"), count("eyas_texts_cut")
    for _ in range(2):
        client.post("/predict", json={"inputs": ["a", "a great film " * 40, "c"]})
    assert count("eyas_texts") == before + 6
    assert count("eyas_texts_cut") == cut + 2
    assert caplog.text.count("a text has more tokens than the 48 that the model reads") <= 1


def test_models_reload_versions_and_changed_folders(
    exported: dict[tuple[str, bool, bool], Path], tmp_path: Path
) -> None:
    root = tmp_path / "films"
    shutil.copytree(exported["cnn", False, False], root / "1")
    models = Models([root])
    assert models.versions("films") == ["1"]
    shutil.copytree(exported["static", False, False], root / "2")
    assert models.refresh() == ["films version 2 was loaded"]
    newest = models.get("films")
    assert newest is not None
    assert newest.version == "2"
    assert models.refresh() == []
    (root / "2" / "manifest.json").write_text("{")
    assert models.refresh() == ["films version 2 cannot be loaded, the previous one stays: ExportError"]
    assert models.refresh() == []
    assert models.get("films") is newest
    shutil.rmtree(root / "2")
    assert models.refresh() == ["films version 2 was removed"]
    assert models.get("films", "2") is None
    root.rename(tmp_path / "away")
    assert models.refresh() == []  # as between two renames
    assert models.get("films") is not None


def test_figures_beside_a_teacher_without_speed_are_shown(folders: dict[str, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(folders["films"], tmp_path / "films"))
    figures = {"metric": "accuracy", "score": 0.9, "retention": 0.95, "agreement": 0.9, "latency_ms": 0.1}
    (root / "exam.json").write_text(json.dumps({**figures, "times_faster": None, "seeds": 3}))
    found = Models([root]).get("films")
    assert found is not None
    assert found.describe()["exam"] == {**figures, "times_faster": None}


def test_models_refuse_invalid_folders(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is not an exported model"):
        Models([tmp_path])
    other = Path(shutil.copytree(folders["films"], tmp_path / "films"))
    with pytest.raises(ExportError, match="Two models have the name films"):
        Models([folders["films"], other])
    with pytest.raises(ExportError, match="Rename the folder: up to 100 letters"):
        Models([tmp_path / "a b"])


def test_server_error_reveals_no_details(folders: dict[str, Path]) -> None:
    server = Server(Models([folders["films"]]))

    def broken(*_: object) -> None:
        raise RuntimeError("secret path /etc")

    model = server.models.get()
    assert model is not None
    model.predictor.logits = broken  # type: ignore[method-assign, assignment]
    with TestClient(server.app(), raise_server_exceptions=False) as client:
        response = client.post("/predict", json={"inputs": "a"})
    assert response.status_code == 500
    assert response.json() == {"error": "The server failed to answer."}


def test_first_model_stays_the_default_when_its_version_changes(
    exported: dict[tuple[str, bool, bool], Path], tmp_path: Path
) -> None:
    for name in ("a/1", "b"):
        shutil.copytree(exported["cnn", False, False], tmp_path / name)
    models = Models([tmp_path / "a", tmp_path / "b"])
    shutil.copytree(exported["static", False, False], tmp_path / "a" / "2")
    models.refresh()
    shutil.rmtree(tmp_path / "a" / "1")
    assert models.refresh() == ["a version 1 was removed"]
    found = models.get()
    assert found is not None
    assert (found.name, found.version) == ("a", "2")


def test_link_keeps_its_name_and_may_be_switched(exported: dict[tuple[str, bool, bool], Path], tmp_path: Path) -> None:
    for kind in ("cnn", "static"):
        shutil.copytree(exported[kind, False, False], tmp_path / kind)
    (tmp_path / "films").symlink_to("cnn")
    models = Models([tmp_path / "films"])
    (tmp_path / "other").symlink_to("static")
    (tmp_path / "other").rename(tmp_path / "films")
    assert models.refresh() == ["films version 1 was loaded"]


def test_slow_model_does_not_hold_up_another(folders: dict[str, Path]) -> None:
    import time

    server = Server(Models([folders["films"], folders["tags"]]), Limits(answer_seconds=0.3))
    slow = server.models.get("tags")
    assert slow is not None
    slow.predictor.split = lambda *_: time.sleep(1.0)  # type: ignore[method-assign]
    server.seconds_per_character["tags"] = 1.0
    with TestClient(server.app()) as client:
        with ThreadPoolExecutor() as pool:
            held = pool.submit(client.post, "/predict", json={"inputs": ["a b"], "model": "tags"})
            server.seconds_per_character["films"] = 1.0  # so that a thread answers
            time.sleep(0.1)
            assert client.post("/predict", json={"inputs": "a great film", "model": "films"}).status_code == 200
        assert held.result().status_code == 503


def test_slow_answer_times_out(folders: dict[str, Path]) -> None:
    import time

    server = Server(Models([folders["films"]]), Limits(answer_seconds=0.3))
    server.seconds_per_character["films"] = 1.0  # so that a thread answers
    model = server.models.get()
    assert model is not None
    quick = model.predictor.logits

    def slow(*arguments: Any) -> np.ndarray:
        time.sleep(1.0)
        return quick(*arguments)

    model.predictor.logits = slow  # type: ignore[method-assign]
    with TestClient(server.app()) as client:
        started = time.monotonic()
        response = client.post("/predict", json={"inputs": "a great film"})
        assert time.monotonic() - started < 0.9
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


def test_openapi_document_has_limits_and_models(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert schemas["InputTensor"]["properties"]["data"]["maxItems"] == 8
    assert schemas["OnePair"]["properties"]["text_pair"]["maxLength"] == 5_000
    assert schemas["PredictTexts"]["properties"]["model"]["anyOf"][0]["enum"] == ["films", "pairs"]
    asked = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert [form["$ref"].rsplit("/", 1)[1] for form in asked] == ["PredictTexts", "PredictPairs"]
    assert "$" not in str(schemas).replace("$ref", "")


@pytest.mark.process
@pytest.mark.parametrize("name", ["films", "pairs", "tags"])
def test_openapi_document_matches_answers(name: str, folders: dict[str, Path]) -> None:
    import schemathesis

    check_answers(schemathesis.openapi.from_asgi("/openapi.json", create_app([folders[name]])), examples=20)


def test_rows_of_fields_are_answered_in_both_protocols(shipped_fields: Path) -> None:
    row = {"user": 1, "item": "i3", "site": None}
    expected = Predictor(shipped_fields)([row])[0]["score"]
    with TestClient(create_app([shipped_fields])) as client:
        assert client.post("/predict", json={"inputs": row}).json() == {"score": pytest.approx(expected)}
        more = {**row, "more": {"a": [1]}, "other": True}
        found = client.post("/predict", json={"inputs": [more, "user=1\titem=i3\tsite="]}).json()
        assert [answer["score"] for answer in found] == pytest.approx([expected] * 2)
        for inputs, says in (
            ({"user": 1}, "Row 0 has no field 'item'"),
            ({**row, "user": [1]}, "'user' is a list, expected one value"),
        ):
            refused = client.post("/predict", json={"inputs": inputs})
            assert refused.status_code == 422
            assert says in refused.json()["error"]
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["user=1\titem=i3\tsite="]}
        name = client.get("/models").json()["models"][0]["name"]
        found = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}).json()
        assert found["outputs"][0]["data"] == pytest.approx([expected])
        tensor["data"] = ["user=1"]
        assert client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}).status_code == 422
