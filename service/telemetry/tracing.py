"""Trace requests and their queries with OpenTelemetry.

A span has the template of the route and the name of the query. It never has a URL, a parameter or
the text of an error: they may contain emails and tokens.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

import sql
from service import __version__
from service.http.errors import Handler
from service.http.request_log import route_of
from service.logs import REQUEST_ID
from service.settings.settings import Settings
from service.telemetry.extras import import_extra

MAX_QUEUED = 2048  # Spans. A thread sends them, and more are dropped.
SEND_TIMEOUT = 5.0  # Seconds.


class Tracing:
    """Record a span for each request and for each query, and send them to ``endpoint``.

    The variables of OpenTelemetry configure the rest, such as ``OTEL_TRACES_SAMPLER``.
    """

    def __init__(self, settings: Settings) -> None:
        """Raise ``ExtraMissing`` without the libraries."""

        def load(module: str) -> Any:
            return import_extra(
                f"opentelemetry.{module}",
                extra="opentelemetry",
                setting="OTEL_EXPORTER_OTLP_ENDPOINT",
            )

        # Import them now, before the workers are forked: they share the memory.
        self._export = load("sdk.trace.export")
        self._exporter = load("exporter.otlp.proto.http.trace_exporter")
        self._trace = load("trace")
        self._propagator = load("trace.propagation.tracecontext").TraceContextTextMapPropagator()
        resource = load("sdk.resources").Resource.create(
            {"service.name": "accounts", "service.version": __version__}
        )
        self._provider = load("sdk.trace").TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("service")
        self._endpoint = settings.otel_exporter_otlp_endpoint
        # A stranger must not choose the trace, nor that it is recorded.
        self._trusts_callers = settings.trusted_proxies > 0
        self._names = {
            id(query): f"{namespace}.{query.name}"
            for namespace, queries in sql.NAMESPACES.items()
            for query in queries
        }

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """Send the spans while the application runs: a cleanup context."""
        # The processor starts a thread, which no fork would copy.
        exporter = self._exporter.OTLPSpanExporter(
            f"{self._endpoint}/v1/traces", timeout=SEND_TIMEOUT
        )
        self._provider.add_span_processor(
            self._export.BatchSpanProcessor(exporter, max_queue_size=MAX_QUEUED)
        )
        sql.wrap_calls(self._trace_query)
        yield
        sql.wrap_calls(None)
        await asyncio.to_thread(self._provider.shutdown)

    @property
    def middleware(self) -> Middleware:
        """The middleware that records a span for each request."""

        @web.middleware
        async def trace_request(request: web.Request, handler: Handler) -> web.StreamResponse:
            caller = self._propagator.extract(request.headers) if self._trusts_callers else None
            route = route_of(request)
            with self._tracer.start_as_current_span(
                f"{request.method} {route}" if route is not None else request.method,
                context=caller,
                kind=self._trace.SpanKind.SERVER,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                response = await handler(request)
                span.set_attribute("http.request.method", request.method)
                span.set_attribute("http.response.status_code", response.status)
                if route is not None:
                    span.set_attribute("http.route", route)
                if request_id := REQUEST_ID.get():
                    span.set_attribute("request_id", request_id)
                if response.status >= 500:
                    span.set_status(self._trace.StatusCode.ERROR)
                return response

        return trace_request

    async def _trace_query(self, query: sql.Query, call: Coroutine[Any, Any, Any]) -> Any:
        """Await ``call`` in a span, which includes the wait for a connection.

        Background tasks have no span: their queries are not recorded.
        """
        if not self._trace.get_current_span().get_span_context().is_valid:
            return await call
        with self._tracer.start_as_current_span(
            self._names[id(query)],
            kind=self._trace.SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql"},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return await call
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(self._trace.StatusCode.ERROR)
                raise
