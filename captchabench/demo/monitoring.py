"""The counters of the demo, in the Prometheus text format."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Monitor:
    """The counters of one application. Each has a registry, so that two applications in one process do not mix."""

    def __init__(self, waiting: Callable[[], int], in_progress: Callable[[], int]) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)
        self.requests = Counter("captchabench_requests", "Requests answered.", ("route", "status"), registry=registry)
        self.seconds = Histogram(
            "captchabench_predict_seconds",
            "Seconds from the start of a request to its answer, if any image was read.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.readings = Counter("captchabench_readings", "Images read, by model.", ("model",), registry=registry)
        self.rejections = Counter(
            "captchabench_rejections", "Images that could not be read, by reason.", ("reason",), registry=registry
        )
        self.cut_off = Counter(
            "captchabench_connections_cut_off", "Connections ended without an answer.", ("why",), registry=registry
        )
        self.batches = Histogram(
            "captchabench_batch_images", "Images that were read together.", registry=registry, buckets=_BATCHES
        )
        for name, description, value in (
            ("captchabench_waiting_images", "Images that are waiting to be read.", waiting),
            ("captchabench_predict_in_progress", "Requests being received or answered.", in_progress),
        ):
            Gauge(name, description, registry=registry).set_function(value)

    def text(self) -> bytes:
        """All counters in the Prometheus text format."""
        return generate_latest(self._registry)
