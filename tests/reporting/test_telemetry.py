"""OpenTelemetry: what a receiver of OTLP over HTTP gets from a run."""

import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from target_salesloft.reporting.build import is_requested
from tests.conftest import people, schema

COLUMNS = schema("people", "email_address", "owner_id")


class Receiver:
    """Receives traces and metrics."""

    def __init__(self):
        bodies = self.bodies = {"/v1/traces": [], "/v1/metrics": []}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                bodies[self.path].append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self):
        requests = [ExportTraceServiceRequest.FromString(each) for each in self.bodies["/v1/traces"]]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self):
        """Name → (attributes, value) of each data point of the last export."""
        request = ExportMetricsServiceRequest.FromString(self.bodies["/v1/metrics"][-1])
        return {
            metric.name: [(attributes_of(point), point.as_int) for point in metric.sum.data_points]
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def attributes_of(item):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in item.attributes}


@pytest.fixture
def receiver(monkeypatch):
    receiver = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    yield receiver
    receiver.close()


def by_name(spans, name):
    return [each for each in spans if each.name == name]


def test_run_is_one_trace_of_batches_jobs_and_requests(run, receiver):
    run([COLUMNS, *people(range(120))], batch_size_rows=60)
    spans = receiver.spans
    assert len({each.trace_id for each in spans}) == 1
    ((whole),) = by_name(spans, "run")
    assert [attributes_of(each)["salesloft.records"] for each in by_name(spans, "batch")] == [60, 60]
    jobs = by_name(spans, "bulk job")
    assert [each.parent_span_id for each in jobs] == [whole.span_id] * 2
    assert attributes_of(jobs[0])["salesloft.job_type"] == "person/upsert"
    (start, *_) = by_name(spans, "PUT /bulk_jobs/{id}")
    assert attributes_of(start)["url.template"] == "/bulk_jobs/{id}"
    assert attributes_of(whole)["salesloft.exit_code"] == 0


def test_metrics_count_results_points_and_retries(run, receiver, sandbox, fault):
    fault("status", path="/person_upserts", status=503, times=2)
    run([COLUMNS, *people([1, 2]), *people([3], owner_id="x")], write_method="record")
    metrics = receiver.metrics
    results = {attributes["salesloft.result"]: count for attributes, count in metrics["salesloft.records"] if count}
    assert results == {"created": 2, "failed": 1}
    assert metrics["salesloft.points"] == [({}, len(sandbox.requests))]
    assert metrics["salesloft.retries"] == [({"url.template": "POST /person_upserts"}, 2)]
    (batch,) = by_name(receiver.spans, "batch")
    writes = by_name(receiver.spans, "POST /person_upserts")
    assert [each.parent_span_id for each in writes] == [batch.span_id] * 4
    (whole,) = by_name(receiver.spans, "run")
    assert attributes_of(whole)["salesloft.exit_code"] == 1
    assert whole.status.code == whole.status.STATUS_CODE_ERROR


@pytest.mark.parametrize("broken", [False, True])
def test_no_data_and_no_secret_leave_the_run(run, receiver, fault, broken):
    """Queries of lookups and texts of errors contain values of records."""
    if broken:
        fault("reset_after", path="/people", times=1)
    run([COLUMNS, *people([1, 2])], sync_mode="update")
    sent = b"".join(receiver.bodies["/v1/traces"] + receiver.bodies["/v1/metrics"])
    assert b"GET /people" in sent
    for value in (b"example.com", b"email_address", b"p1@", b"p1%40", b"ak00"):
        assert value not in sent


@pytest.fixture
def silent():
    """The URL of a collector that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_silent_collector_holds_the_run_for_a_limited_time(run, sandbox, silent, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", silent)
    monkeypatch.setattr("target_salesloft.reporting.otel.EXPORT_SECONDS", 0.1)
    started = time.monotonic()
    result = run([COLUMNS, *people([1])])
    assert time.monotonic() - started < 5
    assert result.code == 0
    assert len(sandbox.people()) == 1
    assert result.log_lines_containing("OpenTelemetry")


@pytest.mark.parametrize(
    ("environ", "requested"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_variables_decide(environ, requested):
    assert is_requested(environ) is requested


def test_missing_extra_is_a_warning(run, monkeypatch):
    sys.modules.pop("target_salesloft.reporting.otel", None)
    run([COLUMNS, *people([1])])
    assert "target_salesloft.reporting.otel" not in sys.modules, "nothing is imported without a receiver"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "target_salesloft.reporting.otel", None)
    result = run([COLUMNS, *people([1])])
    assert result.code == 0
    assert len(result.log_lines_containing("target-salesloft[otel]")) == 1
