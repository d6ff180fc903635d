"""The HTTP server for exported models, in Hugging Face's format and in the Open Inference Protocol v2."""

import asyncio
import hmac
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from eyas._version import __version__
from eyas.kinds import GENERATION
from eyas.runtime.cascade import Cascade
from eyas.serve.answers import ANSWERS, Metadata, Outputs, Stop, answers, metadata, size_of, tensors
from eyas.serve.limits import Limits, RequestError
from eyas.serve.metrics import Metrics
from eyas.serve.models import Model, Models
from eyas.serve.openapi import Handler, Operation, document
from eyas.serve.requests import Infer, Predict, Question, parse_json, predict_type, read, read_question, read_tensors

logger = logging.getLogger("eyas.serve")

PAGE = Path(__file__).parents[1] / "runtime" / "web" / "index.html"
# Requests expected to take longer run in a thread, so that they do not block others.
INLINE_SECONDS = 0.005
# Seconds per character of a model that has not answered yet.
UNKNOWN = 1e-5
# Weight of the newest measurement in the estimate.
NEWEST = 0.1
REFRESH_SECONDS = 1.0
HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' "
    "'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
Answering = Callable[[Model, Question, Stop], Any]


class Server:
    """The routes and their shared state.

    Args:
        models: the models to serve.
        limits: limits on requests.
        api_key: required for everything but the page, health and the OpenAPI document; None = no key.
        origins: web pages of these origins (`https://example.org`; * for all) may call the server from a browser.
    """

    def __init__(
        self, models: Models, limits: Limits | None = None, api_key: str | None = None, origins: Sequence[str] = ()
    ) -> None:
        self.models, self.limits, self.api_key, self.origins = models, limits or Limits(), api_key, origins
        self.metrics = Metrics()
        self.ready = True
        self.waiting = 0
        self.seconds_per_character: dict[str, float] = {}
        self._cut: dict[tuple[Any, ...], int] = {}
        self._answered: dict[tuple[Any, ...], list[int]] = {}
        self._threads: dict[str, ThreadPoolExecutor] = {}

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route(each.path, self._guarded(each.handler, each.open_to_all), methods=[each.method])
            for each in self._operations()
        ]
        handlers: dict[Any, Any] = {HTTPException: _http_error}
        headers = ["authorization", "content-type", "x-api-key"]
        cross = Middleware(CORSMiddleware, self.origins, allow_methods=["GET", "POST"], allow_headers=headers)
        middleware = [cross] if self.origins else []
        return Starlette(routes=routes, middleware=middleware, lifespan=self._lifespan, exception_handlers=handlers)

    def _operations(self) -> list[Operation]:
        """The routes in the order of matching, the busiest first."""
        newest = [model for model in map(self.models.get, self.models.names) if model is not None]
        questions = list(dict.fromkeys(map(predict_type, newest)))
        each = ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"]
        state = partial(Operation, summary="Whether it accepts requests.", open_to_all=True, may_be_unready=True)
        predicting = "Predict, in Hugging Face's format."
        inferring = "Predict, in the format of the Open Inference Protocol v2."
        return [
            Operation("/predict", self.predict, predicting, ANSWERS, questions),
            Operation("/", self.predict, predicting, ANSWERS, questions),  # as an inference endpoint of Hugging Face
            *(Operation(f"{path}/infer", self.infer, inferring, [Outputs], [Infer]) for path in each),
            Operation("/", self.page, "The page.", [str], media="text/html", open_to_all=True),
            state("/health", self.health, gives=[dict[str, str]]),
            Operation("/openapi.json", self.openapi, "This document.", [dict[str, Any]], open_to_all=True),
            Operation("/metrics", self.tell_metrics, "Metrics for Prometheus.", [str], media="text/plain"),
            Operation("/models", self.list_models, "The models: their tasks and labels.", [dict[str, Any]]),
            Operation("/v2", self.server_metadata, "Server metadata.", [dict[str, Any]]),
            Operation(
                "/v2/health/live", self.live, "Whether the server is alive.", [dict[str, bool]], open_to_all=True
            ),
            state("/v2/health/ready", self.server_ready, gives=[dict[str, bool]]),
            *(Operation(path, self.metadata, "Model metadata.", [Metadata]) for path in each),
            *(state(f"{path}/ready", self.model_ready, gives=[dict[str, str | bool]]) for path in each),
        ]

    # --- routes ---------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok"} if self.ready else {"status": "stopping"}, 200 if self.ready else 503)

    async def openapi(self, request: Request) -> Response:
        return _json(document(self._operations(), self.models, self.limits, self.api_key is not None))

    async def tell_metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def list_models(self, request: Request) -> Response:
        each = [self.models.get(name, version) for name in self.models.names for version in self.models.versions(name)]
        return _json({"models": [model.describe() for model in each if model is not None]})

    async def predict(self, request: Request) -> Response:
        content = parse_json(await self._body(request))
        asked = read(content, Predict)
        model = self._model(asked.model, asked.version)
        question = read_question(content, model, self.limits)
        return _json(await self._run(request, answers, model, question))

    async def server_metadata(self, request: Request) -> Response:
        return _json({"name": "eyas", "version": __version__, "extensions": []})

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def server_ready(self, request: Request) -> Response:
        return _json({"ready": self.ready}, 200 if self.ready else 503)

    async def metadata(self, request: Request) -> Response:
        model = self._of_path(request)
        return _json(metadata(model, self.models.versions(model.name)))

    async def model_ready(self, request: Request) -> Response:
        model = self._of_path(request)
        return _json({"name": model.name, "ready": self.ready}, 200 if self.ready else 503)

    async def infer(self, request: Request) -> Response:
        model = self._of_path(request)
        asked = read(parse_json(await self._body(request)), Infer)
        question = read_tensors(asked, model, self.limits)
        outputs = await self._run(request, tensors, model, question)
        answer: Outputs = {"model_name": model.name, "model_version": model.version, "outputs": outputs}
        return _json(answer if asked.id is None else {**answer, "id": asked.id})

    # --- shared by the routes -------------------------------------------------------------------------------

    async def _body(self, request: Request) -> bytes:
        """The body of a request; raises RequestError as soon as it exceeds the limit."""
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send application/json.")
        most = self.limits.body_bytes
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _too_large(most)
            parts.append(part)
        return b"".join(parts)

    async def _run(self, request: Request, function: Answering, model: Model, question: Question) -> Any:
        """The answer, computed here if that is quick, otherwise in a thread, which stops if the client disconnects."""
        size = max(sum(map(size_of, question.texts)), 1)
        usual = self.seconds_per_character.get(model.name, UNKNOWN)
        quick = size * usual <= INLINE_SECONDS and model.predictor.task.kind != GENERATION
        if quick:
            started = time.perf_counter()
            result = function(model, question, lambda: False)
            taken = time.perf_counter() - started
        else:
            taken, result = await self._in_thread(request, function, model, question)
        usual = self.seconds_per_character.get(model.name, UNKNOWN)  # others may have been answered meanwhile
        self.seconds_per_character[model.name] = usual + NEWEST * (taken / size - usual)
        self.metrics.texts.labels(model.name, model.version).inc(len(question.texts))
        self._count_cut(model)
        self._count_stages(model)
        return result

    def _count_stages(self, model: Model) -> None:
        """Count which model of a cascade answered."""
        if isinstance(model.predictor, Cascade):
            key = (model.name, model.version, model.stamp)
            before = self._answered.get(key, [0] * len(model.predictor.answered))
            self._answered[key] = list(model.predictor.answered)
            stages = model.predictor.manifest.stages
            called = [stage["name"] for stage in stages]
            names = [n if called.count(n) == 1 else f"{n} ({s['folder']})" for n, s in zip(called, stages, strict=True)]
            for name, now, then in zip(names, self._answered[key], before, strict=True):
                self.metrics.stages.labels(model.name, model.version, name).inc(now - then)

    def _count_cut(self, model: Model) -> None:
        """Count the texts that were longer than the model reads; the first one is logged."""
        cut, key = model.predictor.cut, (model.name, model.version, model.stamp)
        before = self._cut.get(key, 0)
        if cut > before:
            self.metrics.cut.labels(model.name, model.version).inc(cut - before)
            self._cut[key] = cut
        if cut and not before:
            _log(
                event=f"{model.name} version {model.version}: a text has more tokens than the "
                f"{model.predictor.max_length} that the model reads. The rest is not read; /metrics counts such texts."
            )

    async def _in_thread(
        self, request: Request, function: Answering, model: Model, question: Question
    ) -> tuple[float, Any]:
        stopped = threading.Event()

        def timed() -> tuple[float, Any]:
            started = time.perf_counter()
            result = function(model, question, stopped.is_set)
            return time.perf_counter() - started, result

        # One for each model: none waits for another.
        thread = self._threads.setdefault(model.name, ThreadPoolExecutor(1, f"eyas-{model.name}"))
        future = asyncio.get_running_loop().run_in_executor(thread, timed)
        end = time.monotonic() + self.limits.answer_seconds
        try:
            while True:
                await asyncio.wait([future], timeout=min(0.1, max(end - time.monotonic(), 0.001)))
                if future.done():
                    return future.result()
                if time.monotonic() >= end:
                    self.seconds_per_character[model.name] = 2 * INLINE_SECONDS  # until answers say otherwise
                    raise _overloaded("The answer took too long.")
                if await request.is_disconnected():
                    raise ClientDisconnect
        finally:
            stopped.set()  # the thread stops after its current text
            future.cancel()

    def _model(self, name: str | None, version: str | None) -> Model:
        model = self.models.get(name, version)
        if model is None:
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"No such model or version. Available: {', '.join(self.models.names)}."
            )
        return model

    def _of_path(self, request: Request) -> Model:
        return self._model(request.path_params["name"], request.path_params.get("version"))

    def _guarded(self, handler: Handler, open_to_all: bool = False) -> Handler:
        """`handler` with a check of the key, a limit on concurrent requests, error messages, metrics and a log line."""

        async def guarded(request: Request) -> Response:
            started = time.perf_counter()
            route = request.scope["route"].path
            self.waiting += 1
            self.metrics.waiting.inc()
            try:
                await asyncio.sleep(0)  # count all requests that have arrived
                response = await self._answer(handler, request, open_to_all)
            finally:
                self.waiting -= 1
                self.metrics.waiting.dec()
            taken = time.perf_counter() - started
            self.metrics.answered(route, response.status_code, taken)
            _log(method=request.method, route=route, status=response.status_code, ms=round(taken * 1000, 2))
            response.raw_headers.extend(RAW_HEADERS)
            return response

        return guarded

    async def _answer(self, handler: Handler, request: Request, open_to_all: bool) -> Response:
        try:
            if not open_to_all and not self._has_key(request):
                raise _without_key()
            if not open_to_all and self.waiting > self.limits.waiting:
                raise _overloaded("Too many requests at once.")
            return await handler(request)
        except RequestError as refused:
            headers = {name.replace("_", "-"): value for name, value in refused.headers.items()}
            return _json({"error": refused.message}, refused.status, headers)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # whatever it is, the client sees no internals
            logger.error("%s while answering %s", type(error).__name__, request.scope["route"].path)
            return _json({"error": "The server failed to answer."}, 500)

    def _has_key(self, request: Request) -> bool:
        if self.api_key is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        given = given if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        return hmac.compare_digest(given.encode("latin-1"), self.api_key.encode())  # the bytes as received

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self.ready = False
            watching.cancel()
            for thread in self._threads.values():
                thread.shutdown(wait=False, cancel_futures=True)

    async def _watch(self) -> None:
        """Replace models whose folders have changed; requests in progress keep theirs."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                for event in await asyncio.to_thread(self.models.refresh):
                    _log(event=event)
            except Exception as error:  # whatever it is, the next check may succeed
                _log(event=f"the folders could not be checked: {type(error).__name__}")


def create_app(
    folders: Sequence[str | Path],
    limits: Limits | None = None,
    api_key: str | None = None,
    origins: Sequence[str] = (),
) -> Starlette:
    """An ASGI application that serves exported folders; raises ExportError for a damaged one."""
    return Server(Models(folders), limits, api_key, origins).app()


def _without_key() -> RequestError:
    message = "An API key is required: Authorization: Bearer KEY."
    return RequestError(HTTPStatus.UNAUTHORIZED, message, www_authenticate="Bearer")


def _too_large(most: int) -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {most:,} bytes.", connection="close"
    )


def _overloaded(message: str) -> RequestError:
    return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, f"{message} Try again.", retry_after="1")


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(body, status, headers, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    _log(method=request.method, status=error.status_code)
    response = JSONResponse({"error": HTTPStatus(error.status_code).phrase}, error.status_code, error.headers)
    response.raw_headers.extend(RAW_HEADERS)
    return response


def _log(**fields: Any) -> None:
    logger.info(json.dumps(fields))
