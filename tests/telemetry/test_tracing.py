"""Test the traces that a real exporter of OpenTelemetry sends to a collector."""

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import MakeClient
from tests.telemetry.conftest import Collector

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE_PARENT = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}


def spans_of(collector: Collector) -> list[Any]:
    """Return the spans that the collector received."""
    spans = []
    for path, body in collector.received:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            assert names["service.name"] == "accounts"
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    return spans


def attributes_of(span: Any) -> dict[str, Any]:
    """Return the attributes of a span, each as a text or a number."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_request_and_its_queries_are_one_trace_without_personal_data(
    make_client: MakeClient, collector: Collector
) -> None:
    client = await make_client(otel_exporter_otlp_endpoint=f"http://127.0.0.1:{collector.port}")
    token = await client.register("alice")
    response = await client.get(
        "/api/profiles/alice?x=secret-query",
        token=token,
        headers={"X-Request-ID": "trace-me", "User-Agent": "secret-agent"},
    )
    assert response.status == 200
    await client.http.close()
    spans = spans_of(collector)
    (request,) = (span for span in spans if span.name == "GET /api/profiles/{username}")
    assert attributes_of(request) == {
        "http.request.method": "GET",
        "http.route": "/api/profiles/{username}",
        "http.response.status_code": 200,
        "request_id": "trace-me",
    }
    queries = [span for span in spans if span.parent_span_id == request.span_id]
    assert "profiles.find" in [span.name for span in queries]
    assert {span.trace_id for span in queries} == {request.trace_id}
    # Each query belongs to a request: the service also queries in the background.
    requests = {span.span_id for span in spans if not span.parent_span_id}
    assert all("api" in span.name for span in spans if span.span_id in requests)
    for secret in (b"alice", b"secret-", token.encode()):
        assert secret not in b"".join(body for _, body in collector.received)


async def test_failed_query_and_request_have_the_status_error(
    make_client: MakeClient, collector: Collector, db: Any
) -> None:
    client = await make_client(otel_exporter_otlp_endpoint=f"http://127.0.0.1:{collector.port}")
    await db.execute("alter table users add constraint broken check (false) not valid")
    try:
        user = {"username": "eve", "email": "eve@example.test", "password": "eve's secret"}
        assert (await client.post("/api/users", {"user": user})).status == 500
    finally:
        await db.execute("alter table users drop constraint broken")
    await client.http.close()
    failed = [span for span in spans_of(collector) if span.status.code == 2]
    assert "POST /api/users" in [span.name for span in failed]
    assert "CheckViolationError" in [attributes_of(span).get("error.type") for span in failed]
    assert not any(span.events or span.status.message for span in failed)
    assert b"eve@" not in b"".join(body for _, body in collector.received)


async def test_trace_of_a_caller_is_continued_only_behind_a_proxy(
    make_client: MakeClient, collector: Collector
) -> None:
    for trusted_proxies in (0, 1):
        client = await make_client(
            otel_exporter_otlp_endpoint=f"http://127.0.0.1:{collector.port}",
            trusted_proxies=trusted_proxies,
        )
        assert (await client.get("/api/tags", headers=TRACE_PARENT)).status == 200
        await client.http.close()
    stranger, trusted = (span for span in spans_of(collector) if span.name == "GET /api/tags")
    assert stranger.trace_id.hex() != TRACE_ID
    assert not stranger.parent_span_id
    assert trusted.trace_id.hex() == TRACE_ID


async def test_service_responds_and_stops_when_the_collector_is_away(
    make_client: MakeClient, collector: Collector
) -> None:
    client = await make_client(otel_exporter_otlp_endpoint=f"http://127.0.0.1:{collector.port}")
    await collector.server.close()
    assert (await client.get("/api/tags")).status == 200
    await client.http.close()
