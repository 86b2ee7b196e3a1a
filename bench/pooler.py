"""PgBouncer between the service and PostgreSQL: the rate and the CPU time that it takes."""

import contextlib
import statistics
from itertools import groupby, islice
from operator import itemgetter

from bench import cpu
from bench.reads import PREPARED, ROUNDS, Subject
from bench.site import ARTICLES, site
from bench.table import Report, Row
from tests.pgbouncer import PgBouncer, supports_prepared_statements

KINDS = {
    "user": "GET /api/user, without SQL",
    "article": "GET /api/articles/{slug}",
    "list, signed in": "GET /api/articles?limit=20, signed in",
    "comment": "comment, 8 connections",
}
# As docs/operations.md recommends.
CONNECT_QUERY = "set plan_cache_mode = force_generic_plan; set jit = off"


def measure(report: Report) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes a minute."""
    modes = ["false", "true"] if supports_prepared_statements() else ["false"]
    with site(report) as filled, contextlib.ExitStack() as stack:
        pgbouncer = stack.enter_context(PgBouncer(filled.database_url, connect_query=CONNECT_QUERY))
        direct = stack.enter_context(filled.warm_service())
        pooled = {
            mode: stack.enter_context(
                filled.warm_service(
                    DATABASE_URL=pgbouncer.url(filled.database_url),
                    DATABASE_LISTEN_URL=filled.database_url,
                    DATABASE_PREPARED_STATEMENTS=mode,
                )
            )
            for mode in modes
        }
        subjects = []
        for kind, what in KINDS.items():
            requests = list(islice(filled.requests({kind: 1}), PREPARED))
            connections = 8 if kind == "comment" else 32
            near = Subject(what, direct.url, requests, cpu.workers(direct.pid), "", connections)
            for mode, service in pooled.items():
                pids = [*cpu.workers(service.pid), pgbouncer.pid]
                name = what if mode == "true" else f"{what}, DATABASE_PREPARED_STATEMENTS=false"
                far = Subject(name, service.url, requests, pids, "", connections)
                subjects.append((near, far))
        for number in range(ROUNDS):
            report(f"{ARTICLES:,} articles, round {number + 1} of {ROUNDS} ...")
            for near, pairs in groupby(subjects, key=itemgetter(0)):
                near.load(report)
                for _, far in pairs:
                    far.load(report)
    return [
        Row(far.what, _figures(near), _figures(far), f"{far.rate / near.rate:.2f}")
        for near, far in subjects
    ]


def _figures(subject: Subject) -> str:
    return f"{subject.rate:,.0f} /s, CPU {statistics.median(subject.spent):.0f} µs"
