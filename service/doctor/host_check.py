"""Check each host of a database URL with several: after a failover, one of them accepts writes."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.database.pool import CONNECT_TIMEOUT
from service.doctor.findings import Context, Finding, note, ok, problem

QUERY = "select pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean"


async def check_hosts(context: Context) -> AsyncIterator[Finding]:
    """Check each host of a database URL with several."""
    url, setting = context.session_database_url
    if url is None or context.settings.embedded:
        yield note("the embedded PostgreSQL has no second host, so there is no failover")
        return
    hosts = _hosts_of(url)
    if len(hosts) < 2:
        yield note(f"{setting} has one host, so there is no failover")
        return
    states = await asyncio.gather(*(_state_of(url, host, port) for host, port in hosts))
    names = [f"{host}:{port}" for host, port in hosts]
    for finding in host_findings(dict(zip(names, states, strict=True)), setting):
        yield finding


def host_findings(states: dict[str, str | None], setting: str) -> list[Finding]:
    """Return the findings for hosts that are ``primary`` or ``replica``, or do not respond."""
    findings = [ok(f"{name} is a {state}") for name, state in states.items() if state is not None]
    findings += [
        problem(
            f"{name} does not respond: no failover to it is possible",
            f"repair it, or remove it from {setting}",
        )
        for name, state in states.items()
        if state is None
    ]
    primaries = [name for name, state in states.items() if state == "primary"]
    if not primaries:
        findings.append(problem("no host accepts writes", "promote a replica"))
    if len(primaries) > 1:
        findings.append(
            problem(
                f"several hosts accept writes, each for itself: {', '.join(primaries)}",
                "stop the former primary at once: the service writes to the first that responds",
            )
        )
    return findings


def _hosts_of(url: str) -> list[tuple[str, str]]:
    """Return the hosts and ports of ``url``."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        return []
    hosts = str(given.get("host") or "").split(",")
    ports = str(given.get("port") or "5432").split(",")
    # libpq: a single port is that of each host.
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [(host, port or "5432") for host, port in zip(hosts, ports, strict=False)]


async def _state_of(url: str, host: str, port: str) -> str | None:
    """Return whether the server is a primary or a replica, or ``None`` if it does not respond."""
    target = make_conninfo(url, host=host, port=port, target_session_attrs="any")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            connection = await psycopg.AsyncConnection.connect(target, autocommit=True)
            try:
                row = await (await connection.execute(QUERY, prepare=False)).fetchone()
            finally:
                await connection.close()
    except (psycopg.Error, OSError, TimeoutError):
        return None
    return "replica" if row is not None and row[0] else "primary"
