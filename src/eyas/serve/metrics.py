"""Metrics of the server, for Prometheus."""

import os
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Metrics of a worker. Several workers share a folder, and each of them reports the total."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("eyas_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "eyas_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.texts = Counter("eyas_texts", "Texts answered.", ["model", "version"], registry=self.registry)
        self.cut = Counter(
            "eyas_texts_cut", "Texts longer than the model reads.", ["model", "version"], registry=self.registry
        )
        self.stages = Counter(
            "eyas_cascade_texts", "Texts answered.", ["model", "version", "stage"], registry=self.registry
        )
        self.waiting = Gauge(
            "eyas_waiting", "Requests being answered.", multiprocess_mode="livesum", registry=self.registry
        )
        self._children = cache(self._make)  # looking labels up takes longer than counting

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        requests, times = self._children(route, status)
        requests.inc()
        times.observe(seconds)

    def _make(self, route: str, status: int) -> tuple[Counter, Histogram]:
        return self.requests.labels(route, str(status)), self.seconds.labels(route)

    def text(self) -> bytes:
        """The metrics in the format of Prometheus."""
        if MULTIPROCESS not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
