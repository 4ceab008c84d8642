"""Records a run with OpenTelemetry, and exports it with OTLP over HTTP. Requires the extra `otel`."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.metrics import NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Status, StatusCode

from target_salesloft.reporting.run_info import RunInfo
from target_salesloft.reporting.stats import JobTime, RunStats
from target_salesloft.salesloft.rate_limit import RateLimiter
from target_salesloft.salesloft.requester import RequestMetrics

if TYPE_CHECKING:
    import requests
    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.sdk.trace.export import SpanExportResult

logger = logging.getLogger(__name__)

NAME: Final = "target-salesloft"
EXPORT_SECONDS: Final = 5.0
"""How long a run waits at its end for a collector that does not answer."""
NUMBERS: Final = re.compile(r"/\d+(?=/|$)")
TEMPLATE: Final = "url.template"
# All other attributes are left out: URLs of requests contain values of records.
ATTRIBUTES: Final = frozenset(
    {
        "salesloft.run_id", "salesloft.exit_code", "salesloft.stream", "salesloft.records",
        "salesloft.job_id", "salesloft.job_type",
        TEMPLATE, "http.method", "http.request.method", "http.status_code", "http.response.status_code", "error.type",
    }
)  # fmt: skip


class OtelStats(RunStats):
    """Exports its counts, and spans for the run, and for batches, bulk jobs and requests in it."""

    def __init__(
        self,
        environ: Mapping[str, str],
        run: RunInfo,
        requests: RequestMetrics,
        rate_limiter: RateLimiter,
    ) -> None:
        super().__init__()
        self._requests, self._rate_limiter = requests, rate_limiter
        names = {} if environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: NAME}
        resource = Resource.create({**names, "service.version": run.version})
        self._spans = OTLPSpanExporter()
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        if environ.get("OTEL_TRACES_EXPORTER") != "none":
            self._traces.add_span_processor(BatchSpanProcessor(AllowedAttributes(self._spans)))
        readers = []
        if environ.get("OTEL_METRICS_EXPORTER") != "none":
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        self._metrics = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._create_instruments()
        self._tracer = self._traces.get_tracer(NAME, run.version)
        self._run = self._tracer.start_span("run", attributes={"salesloft.run_id": run.run_id})
        self._job_spans: dict[int, trace.Span] = {}
        self._token = otel_context.attach(trace.set_span_in_context(self._run))
        RequestsInstrumentor().instrument(
            tracer_provider=self._traces, meter_provider=NoOpMeterProvider(), request_hook=_name_request
        )
        ThreadingInstrumentor().instrument()

    @contextlib.contextmanager
    def writing(self, stream: str, records: int, now: float) -> Iterator[None]:
        attributes: dict[str, str | int] = {"salesloft.stream": stream, "salesloft.records": records}
        with (
            super().writing(stream, records, now),
            self._tracer.start_as_current_span("batch", attributes=attributes, record_exception=False),
        ):
            yield

    def start_job(self, stream: str, job_id: int, job_type: str, records: int) -> None:
        super().start_job(stream, job_id, job_type, records)
        self._job_spans[job_id] = self._tracer.start_span(
            "bulk job",
            context=trace.set_span_in_context(self._run),
            attributes={
                "salesloft.job_id": job_id,
                "salesloft.job_type": job_type,
                "salesloft.stream": stream,
                "salesloft.records": records,
            },
        )

    def end_job(self, stream: str, job_id: int, time: JobTime) -> None:
        super().end_job(stream, job_id, time)
        self._job_spans.pop(job_id).end()

    def stop(self, exit_code: int) -> None:
        """End all spans, and export what has not been exported, for at most `EXPORT_SECONDS`."""
        RequestsInstrumentor().uninstrument()
        ThreadingInstrumentor().uninstrument()
        for span in self._job_spans.values():
            span.set_status(Status(StatusCode.ERROR))
            span.end()
        self._run.set_attribute("salesloft.exit_code", exit_code)
        self._run.set_status(Status(StatusCode.ERROR if exit_code else StatusCode.OK))
        self._run.end()
        otel_context.detach(self._token)
        # In threads: the exporters retry for longer than the times that they are given.
        threads = [threading.Thread(target=each, daemon=True) for each in (self._export_spans, self._export_metrics)]
        end = time.monotonic() + EXPORT_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            message = "The OpenTelemetry collector did not answer within %g s. Telemetry is lost."
            logger.warning(message, EXPORT_SECONDS, extra={"code": "SL056"})

    def _export_spans(self) -> None:
        self._traces.force_flush(int(EXPORT_SECONDS * 1_000))
        self._spans.shutdown()  # type: ignore[no-untyped-call]  # ends its retries, for which the processor would wait
        self._traces.shutdown()

    def _export_metrics(self) -> None:
        with contextlib.suppress(Exception):  # it has logged what failed
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
                for kind, (count, _seconds) in self._requests.snapshot().items()
            ],
            "retries": lambda _: [
                Observation(count, {TEMPLATE: endpoint}) for endpoint, count in list(self._requests.retries.items())
            ],
            "points": lambda _: [Observation(self._rate_limiter.points_spent)],
        }
        meter = self._metrics.get_meter(NAME)
        for name, callback in counters.items():
            meter.create_observable_counter(f"salesloft.{name}", [callback])


class AllowedAttributes(SpanExporter):
    """Exports spans with the attributes of `ATTRIBUTES` only, and without events, which contain texts of errors."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_reduce(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _reduce(span: ReadableSpan) -> ReadableSpan:
    attributes: Mapping[str, Any] = span.attributes or {}
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes={name: value for name, value in attributes.items() if name in ATTRIBUTES},
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _name_request(span: trace.Span, request: requests.PreparedRequest) -> None:
    """Name the span of a request by the pattern of its path, without ids."""
    path = NUMBERS.sub("/{id}", urlsplit(request.url or "").path)
    span.update_name(f"{request.method} {path}")
    span.set_attribute(TEMPLATE, path)
