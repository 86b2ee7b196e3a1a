"""What error reports and traces cost a request: nothing while they are off."""

import contextlib
import statistics

import uvloop

from bench import cpu
from bench.client import request, send_all
from bench.reads import Subject
from bench.site import site
from bench.table import Report, Row

ROUNDS = 7
# No process listens on this port: what is sent is lost, after the request has been measured.
COLLECTOR = "127.0.0.1:9"
VARIANTS = {
    "off": {},
    "error reports": {"SENTRY_DSN": f"http://key@{COLLECTOR}/1"},
    "traces, one request in a hundred": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{COLLECTOR}",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    },
    "traces, every request": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{COLLECTOR}"},
}


def measure(report: Report) -> list[Row]:
    """Measure every variant and return the rows of the table. Takes a minute."""
    with site(report) as filled, contextlib.ExitStack() as stack:
        requests = [request("GET", "/api/user", token) for token in filled.access_tokens]
        subjects = []
        for name, settings in VARIANTS.items():
            service = stack.enter_context(filled.service(1, **settings))
            uvloop.run(send_all(service.url, requests))
            subjects.append(Subject(name, service.url, requests, cpu.workers(service.pid)))
        for number in range(ROUNDS):
            report(
                f"GET /api/user with error reports and traces, round {number + 1} of {ROUNDS} ..."
            )
            for subject in subjects:
                subject.load(report)
    off = statistics.median(subjects[0].spent)
    return [
        Row(
            f"GET /api/user, {subject.what}",
            f"CPU a request {statistics.median(subject.spent):.1f} µs",
            "",
            f"{statistics.median(subject.spent) / off:.2f} times off",
        )
        for subject in subjects
    ]
