"""The server's OpenAPI document."""

from typing import Any

from eyas._version import __version__
from eyas.serve.models import Models
from eyas.serve.payloads import Limits

ERRORS = {
    "400": "The body is not valid JSON in UTF-8, or the request no valid HTTP.",
    "404": "No such model or version.",
    "413": "The body, a text or the number of texts is too large.",
    "415": "The body is not application/json.",
    "422": "The JSON is not what was asked for.",
    "503": "Too many requests at once, or the answer took too long: try again after Retry-After.",
}


def document(models: Models, limits: Limits, with_key: bool) -> dict[str, Any]:
    """OpenAPI 3.1 of everything that is served, with the models that there are."""
    security: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}] if with_key else []
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    components: dict[str, Any] = {"schemas": _schemas(models, limits)}
    if with_key:
        components["securitySchemes"] = schemes
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "eyas",
            "version": __version__,
            "description": "Distilled classifiers and taggers. What they read depends on the model: see /models.",
        },
        "paths": _paths(models, with_key),
        "components": components,
        **({"security": security} if with_key else {}),
    }


def _paths(models: Models, with_key: bool) -> dict[str, Any]:
    name = {"name": "name", "in": "path", "required": True, "schema": {"enum": models.names}}
    version = {**name, "name": "version", "schema": {"enum": _versions(models)}}
    model, both = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    paths: dict[str, Any] = {
        "/": {"get": _get("The page.", "text/html", [], open_to_all=True)},
        "/health": {"get": _get("Whether the server takes requests.", codes=["503"], open_to_all=True)},
        "/openapi.json": {"get": _get("This document.", open_to_all=True)},
        "/metrics": {"get": _get("Counts for Prometheus.", "text/plain", with_key=with_key)},
        "/models": {"get": _get("The models: their tasks and labels.", with_key=with_key)},
        "/predict": {"post": _post("Predict, in Hugging Face's shape.", "Question", "Answer", [], with_key)},
        "/v2": {"get": _get("Server metadata.", with_key=with_key)},
        "/v2/health/live": {"get": _get("Whether the server lives.", open_to_all=True)},
        "/v2/health/ready": {"get": _get("Whether it takes requests.", codes=["503"], open_to_all=True)},
    }
    for path, parameters in ((model, [name]), (both, [name, version])):
        get = {"parameters": parameters}
        paths[path] = {"get": _get("Model metadata.", codes=["404"], with_key=with_key) | get}
        ready = _get("Whether the model is ready.", codes=["404", "503"], open_to_all=True)
        paths[f"{path}/ready"] = {"get": ready | get}
        infer = _post("Predict, in the Open Inference Protocol v2.", "Tensors", "Outputs", parameters, with_key)
        paths[f"{path}/infer"] = {"post": infer}
    return paths


def _get(
    summary: str,
    media: str = "application/json",
    codes: list[str] | None = None,
    open_to_all: bool = False,
    with_key: bool = False,
) -> dict[str, Any]:
    schema = {"type": "object"} if media == "application/json" else {"type": "string"}
    responses: dict[str, Any] = {"200": {"description": "Here it is.", "content": {media: {"schema": schema}}}}
    wanted = list(codes or []) + ([] if open_to_all else ["503"]) + (["401"] if with_key else [])
    responses |= {code: _error(code) for code in sorted(set(wanted))}
    return {"summary": summary, "responses": responses, **({"security": []} if open_to_all else {})}


def _post(summary: str, asked: str, given: str, parameters: list[Any], with_key: bool) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "The answers.", "content": _content(given)}}
    responses |= {code: _error(code) for code in [*ERRORS, *(["401"] if with_key else [])]}
    body = {"required": True, "content": _content(asked)}
    return {"summary": summary, "parameters": parameters, "requestBody": body, "responses": responses}


def _error(code: str) -> dict[str, Any]:
    return {"description": ERRORS.get(code, "A key is needed."), "content": _content("Error")}


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _versions(models: Models) -> list[str]:
    return sorted({version for name in models.names for version in models.versions(name)})


def _inputs(models: Models, text: dict[str, Any], in_list: bool) -> list[dict[str, Any]]:
    """What one of the models reads as one text; two strings are a pair only in a list of pairs."""
    found = [models.get(name) for name in models.names]
    manifests = [model.predictor.manifest for model in found if model is not None]
    forms: list[dict[str, Any]] = []
    if any(not manifest.pair for manifest in manifests):
        forms += [text, _object(text=text)]
    if any(manifest.pair for manifest in manifests):
        forms.append(_object(text=text, text_pair=text))
        forms += [{"type": "array", "items": text, "minItems": 2, "maxItems": 2}] * in_list
    if any(manifest.task == "tagging" for manifest in manifests):
        forms.append(_object(tokens={"type": "array", "items": text}))
    return forms


def _object(**properties: Any) -> dict[str, Any]:
    required = sorted(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schemas(models: Models, limits: Limits) -> dict[str, Any]:
    text = {"type": "string", "maxLength": limits.characters}
    several = {"type": "array", "items": {"anyOf": _inputs(models, text, True)}, "maxItems": limits.texts}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"enum": ["text", "text_pair"]},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"const": "BYTES"},
            "data": {"type": "array", "items": text, "maxItems": limits.texts},
        },
        "required": ["name", "shape", "datatype", "data"],
    }
    return {
        "Question": {
            "type": "object",
            "properties": {
                "inputs": {"anyOf": [*_inputs(models, text, False), several]},
                "parameters": {
                    "type": ["object", "null"],
                    "properties": {"top_k": {"type": ["integer", "null"], "minimum": 1}},
                    "additionalProperties": False,
                },
                "model": {"enum": [*models.names, None]},
                "version": {"enum": [*_versions(models), None]},
            },
            "required": ["inputs"],
            "additionalProperties": False,
        },
        "Answer": {"description": "For each text a list of answers, the likeliest first; a number, or a vector."},
        "Tensors": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "maxLength": 200},
                "inputs": {"type": "array", "items": tensor, "minItems": 1},
            },
            "required": ["inputs"],
        },
        "Outputs": {
            "type": "object",
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["model_name", "model_version", "outputs"],
        },
        "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
    }
