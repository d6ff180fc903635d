"""The OpenAPI document, generated from the routes and from the types of requests and responses."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from eyas._version import __version__
from eyas.serve.answers import Error
from eyas.serve.limits import Limits
from eyas.serve.models import Models

Handler = Callable[[Request], Awaitable[Response]]
ERRORS = {
    "400": "The body is not valid JSON in UTF-8, or the request is not valid HTTP.",
    "401": "An API key is required.",
    "404": "No such model or version.",
    "413": "The body, a text or the number of texts is too large.",
    "415": "The body is not application/json.",
    "422": "The JSON does not match the schema.",
    "503": "Too many requests at once, or the answer took too long: try again after Retry-After.",
}


@dataclass(frozen=True)
class Operation:
    """A route.

    Args:
        summary: its description in the document.
        gives: the possible types of its response.
        takes: the possible types of its body; if there are any, the route is a POST.
        media: media type of its response.
        open_to_all: it needs no key, and is exempt from the limit on concurrent requests.
        may_be_unready: it answers with 503 while the server shuts down.
    """

    path: str
    handler: Handler
    summary: str
    gives: Sequence[Any]
    takes: Sequence[Any] = ()
    media: str = "application/json"
    open_to_all: bool = False
    may_be_unready: bool = False

    @property
    def method(self) -> str:
        return "POST" if self.takes else "GET"


def document(operations: Sequence[Operation], models: Models, limits: Limits, with_key: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of all routes, with the current models."""
    versions = {version for name in models.names for version in models.versions(name)}
    facts = {
        "$name": models.names,
        "$version": sorted(versions, key=int),
        "$texts": limits.texts,
        "$words": limits.words,
        "$characters": limits.characters,
    }
    types = [Error, *(each for operation in operations for each in (*operation.gives, *operation.takes))]
    each, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(types, each, strict=True))
    about = "Distilled classifiers and taggers. Their inputs depend on the model: see /models."
    result: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "eyas", "version": __version__, "description": about},
        "paths": {},
        "components": {"schemas": components},
    }
    for route in operations:  # the page and an inference have the same path
        result["paths"].setdefault(route.path, {})[route.method.lower()] = _describe(route, schemas, with_key)
    if with_key:
        bearer, header = {"type": "http", "scheme": "bearer"}, {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        result["components"]["securitySchemes"] = {"bearer": bearer, "header": header}
        result["security"] = [{"bearer": []}, {"header": []}]
    filled: dict[str, Any] = _filled(result, facts)
    return filled


def _describe(operation: Operation, schemas: dict[Any, Any], with_key: bool) -> dict[str, Any]:
    def content(types: Sequence[Any], media: str = "application/json") -> dict[str, Any]:
        return {media: {"schema": {"anyOf": [schemas[each] for each in types]}}}

    parameters = re.findall(r"{(\w+)}", operation.path)
    codes = ["400", "404", "413", "415", "422"] if operation.takes else ["404"] * bool(parameters)
    codes += [] if operation.open_to_all else ["401", "503"] if with_key else ["503"]
    given = {"description": "The response.", "content": content(operation.gives, operation.media)}
    responses = {"200": given, **{code: {"description": ERRORS[code], "content": content([Error])} for code in codes}}
    if operation.may_be_unready:
        responses["503"] = {**given, "description": "The server is shutting down."}
    result: dict[str, Any] = {"summary": operation.summary, "responses": responses}
    result["parameters"] = [
        {"name": name, "in": "path", "required": True, "schema": {"enum": f"${name}"}} for name in parameters
    ]
    if operation.takes:
        result["requestBody"] = {"required": True, "content": content(operation.takes)}
    if operation.open_to_all:
        result["security"] = []
    return result


def _filled(node: Any, facts: dict[str, Any]) -> Any:
    """`node` with the placeholders of `facts` replaced by their values."""
    if isinstance(node, dict):
        return {key: _filled(value, facts) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, facts) for value in node]
    return facts.get(node, node) if isinstance(node, str) else node
