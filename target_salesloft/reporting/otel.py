"""Records a run with OpenTelemetry, and exports it with OTLP over HTTP. Requires the extra `otel`."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import requests
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

from target_salesloft.reporting.run_info import RunInfo
from target_salesloft.reporting.stats import JobTime, RunStats
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.salesloft.requester import RequestKind, RequestMetrics

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.util.types import AttributeValue

logger = logging.getLogger(__name__)

NAME: Final = "target-salesloft"
EXPORT_SECONDS: Final = 5.0
"""How long a run waits at its end for a collector that does not respond."""
TEMPLATE: Final = "url.template"


class OtelStats(RunStats):
    """Exports counts, and spans for the run and its batches, bulk jobs, and requests."""

    def __init__(self, environ: Mapping[str, str], run: RunInfo, rate_limiter: RateLimiter) -> None:
        super().__init__()
        self._rate_limiter = rate_limiter
        names = {} if environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: NAME}
        resource = Resource.create({**names, "service.version": run.version})
        self._spans = OTLPSpanExporter()
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        if environ.get("OTEL_TRACES_EXPORTER") != "none":
            self._traces.add_span_processor(BatchSpanProcessor(self._spans))
        readers = []
        if environ.get("OTEL_METRICS_EXPORTER") != "none":
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        self._metrics = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._tracer = self._traces.get_tracer(NAME, run.version)
        self._run = self._tracer.start_span("run", attributes={"salesloft.run_id": run.run_id})
        self.requests: TracedRequests = TracedRequests(self._tracer, self._run)
        self._job_spans: dict[int, trace.Span] = {}
        self._create_instruments()

    @contextlib.contextmanager
    def writing(self, stream: str, records: int, now: float) -> Iterator[None]:
        attributes: dict[str, AttributeValue] = {"salesloft.stream": stream, "salesloft.records": records}
        span = self._tracer.start_span("batch", trace.set_span_in_context(self._run), attributes=attributes)
        self.requests.parent = span
        try:
            with super().writing(stream, records, now):
                yield
        finally:
            self.requests.parent = self._run
            span.end()

    def start_job(self, stream: str, job_id: int, job_type: str, records: int) -> None:
        super().start_job(stream, job_id, job_type, records)
        attributes: dict[str, AttributeValue] = {
            "salesloft.job_id": job_id,
            "salesloft.job_type": job_type,
            "salesloft.stream": stream,
            "salesloft.records": records,
        }
        context = trace.set_span_in_context(self._run)
        self._job_spans[job_id] = self._tracer.start_span("bulk job", context, attributes=attributes)

    def end_job(self, stream: str, job_id: int, time: JobTime) -> None:
        super().end_job(stream, job_id, time)
        self._job_spans.pop(job_id).end()

    def stop(self, exit_code: int) -> None:
        """End all spans, and export everything that is left, within `EXPORT_SECONDS`."""
        for span in self._job_spans.values():
            span.set_status(Status(StatusCode.ERROR))
            span.end()
        self._run.set_attribute("salesloft.exit_code", exit_code)
        self._run.set_status(Status(StatusCode.ERROR if exit_code else StatusCode.OK))
        self._run.end()
        # In threads, because the exporters retry beyond their timeouts.
        threads = [threading.Thread(target=each, daemon=True) for each in (self._export_spans, self._export_metrics)]
        end = time.monotonic() + EXPORT_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            message = "The OpenTelemetry collector did not respond within %g s. Telemetry is lost."
            logger.warning(message, EXPORT_SECONDS, extra={"code": "SL056"})

    def _export_spans(self) -> None:
        self._traces.force_flush(int(EXPORT_SECONDS * 1_000))
        # The provider shuts down the exporter again, which would log a warning.
        logging.getLogger(OTLPSpanExporter.__module__).setLevel(logging.ERROR)
        self._spans.shutdown()  # type: ignore[no-untyped-call]  # stops its retries, which would block the processor
        self._traces.shutdown()

    def _export_metrics(self) -> None:
        with contextlib.suppress(Exception):  # it has logged the error
            self._metrics.shutdown(EXPORT_SECONDS * 1_000)

    def _create_instruments(self) -> None:
        counters: dict[str, Callable[[CallbackOptions], Iterable[Observation]]] = {
            "records": lambda _: [
                Observation(count, {"salesloft.stream": stream, "salesloft.result": result.name.lower()})
                for stream, stats in list(self.items())
                for result, count in list(stats.results.items())
            ],
            "requests": lambda _: [
                Observation(count, {TEMPLATE: kind.endpoint, "http.response.status_code": kind.status or 0})
                for kind, (count, _seconds) in self.requests.totals().items()
            ],
            "retries": lambda _: [
                Observation(count, {TEMPLATE: endpoint}) for endpoint, count in list(self.requests.retries.items())
            ],
            "points": lambda _: [Observation(self._rate_limiter.points_spent)],
        }
        meter = self._metrics.get_meter(NAME)
        for name, callback in counters.items():
            meter.create_observable_counter(f"salesloft.{name}", [callback])


class TracedRequests(RequestMetrics):
    """Counts requests, and adds their spans to the span of the batch or the run."""

    def __init__(self, tracer: trace.Tracer, parent: trace.Span) -> None:
        super().__init__()
        self._tracer = tracer
        self.parent = parent

    def add(self, kind: RequestKind, seconds: float) -> None:
        """Add the span of a finished request, without its URL, which contains values of records."""
        super().add(kind, seconds)
        ended = time.time_ns()
        method, _, template = kind.endpoint.partition(" ")
        attributes: dict[str, AttributeValue] = {"http.request.method": method, TEMPLATE: template}
        if kind.status is not None:
            attributes["http.response.status_code"] = kind.status
        context, started = trace.set_span_in_context(self.parent), ended - round(seconds * 1e9)
        span = self._tracer.start_span(kind.endpoint, context, attributes=attributes, start_time=started)
        if kind.status is None or kind.status >= requests.codes.bad_request:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)
