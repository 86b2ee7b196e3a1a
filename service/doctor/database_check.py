"""Check the database: version, role, clock, migrations, privileges and connections."""

import time
from collections.abc import AsyncIterator
from typing import Any

import sql
from service.database.connection_limit import BESIDES_POOL
from service.database.migrate import MIGRATIONS, MIN_SERVER_VERSION
from service.doctor.connection import NOT_RUNNING, CannotConnect, connect
from service.doctor.findings import Context, Finding, note, ok, problem
from service.settings.settings import Settings

# Seconds. Codes of authenticator apps are accepted for 30 seconds before and after their time.
MAX_CLOCK_SKEW = 5.0
NAMED = 3  # Migrations and tables that a finding names.


async def check_database(context: Context) -> AsyncIterator[Finding]:
    """Check the database: version, role, clock, migrations, privileges and connections."""
    url, setting = context.session_database_url
    if url is None:
        yield note(NOT_RUNNING, "start the service, and run this command beside it")
        return
    try:
        # Through a pooler in transaction mode, only a transaction stays on one connection.
        async with (
            connect(url, setting) as connection,
            connection.transaction(readonly=True),
        ):
            server = await sql.database_check.read_server(connection)
            for finding in _server_findings(server):
                yield finding
            yield await _check_clock(connection)
            for finding in await _check_schema(connection, server):
                yield finding
            limits = await sql.database_check.read_connections(connection)
            yield connection_finding(context.settings, limits)
    except CannotConnect as error:
        yield problem(str(error), error.action)


def _server_findings(server: Any) -> list[Finding]:
    place = f"database {server['database_name']} as user {server['user_name']}"
    size = server["size"] / 1_000_000
    if server["version_number"] < MIN_SERVER_VERSION:
        version = problem(f"PostgreSQL {server['version']} is too old", "upgrade it to 15 or newer")
    else:
        version = ok(f"PostgreSQL {server['version']}, {place}, {size:.0f} MB")
    findings = [version]
    if server["is_read_only"]:
        findings.append(
            problem(
                "the server is read-only: every change gets 503",
                "promote it, or list all hosts in DATABASE_URL",
            )
        )
    if server["encoding"] != "UTF8":
        findings.append(
            problem(
                f"the database has the encoding {server['encoding']}",
                "create it with ENCODING 'UTF8' TEMPLATE template0",
            )
        )
    return findings


async def _check_clock(connection: sql.Connection) -> Finding:
    before = time.time()
    server = (await sql.database_check.read_clock(connection)).timestamp()
    after = time.time()
    return clock_finding(server - (before + after) / 2, (after - before) / 2)


def clock_finding(skew: float, uncertainty: float) -> Finding:
    """Return the finding for a server clock that is ``skew`` seconds ahead of this machine."""
    if abs(skew) - uncertainty > MAX_CLOCK_SKEW:
        direction = "ahead of" if skew > 0 else "behind"
        message = f"the clock of PostgreSQL is {abs(skew):.1f} s {direction} this machine's"
        return problem(message, "synchronize the clocks of both with NTP")
    return ok(f"the clocks of PostgreSQL and this machine differ by {abs(skew):.1f} s")


async def _check_schema(connection: sql.Connection, server: Any) -> list[Finding]:
    known = sorted(
        path.stem for path in MIGRATIONS.glob("*.sql") if not path.stem.endswith(".rollback")
    )
    findings = []
    user = server["user_name"]
    if server["may_read_migrations"] is False:
        findings.append(
            problem(
                f"user {user} may not read the migrations", f"make {user} the owner of all tables"
            )
        )
    else:
        rows = []
        if server["has_migrations"]:
            rows = await sql.database_check.list_migrations(connection)
        findings.append(migration_finding(known, [row["migration_id"] for row in rows]))
    if not server["may_create"]:
        findings.append(
            problem(
                f"user {user} may not create tables, so a newer version cannot migrate",
                f"GRANT CREATE ON SCHEMA public TO {user}",
            )
        )
    if foreign := await sql.database_check.list_foreign_tables(connection):
        names = _some([row["name"] for row in foreign])
        findings.append(
            problem(
                f"user {user} does not own, or may not read and write: {names}",
                f"make {user} their owner",
            )
        )
    elif server["may_create"]:
        findings.append(ok("privileges: the user may use every table and migrate the schema"))
    return findings


def migration_finding(known: list[str], applied: list[str]) -> Finding:
    """Return the finding for the migrations of this version and those of the database."""
    if unknown := sorted(set(applied) - set(known)):
        return problem(
            f"a newer version of the service has migrated the database: {_some(unknown)}",
            "run that version",
        )
    if pending := sorted(set(known) - set(applied)):
        return problem(
            f"migrations pending: {len(pending)} ({_some(pending)})",
            "run `python run.py migrate`, or start the service, which does the same",
        )
    return ok(f"migrations: all {len(known)} are applied")


def connection_finding(settings: Settings, limits: Any) -> Finding:
    """Compare the connections that the processes may open with those that the server allows.

    Count the processes of other machines, too: those that listen to the database now.
    """
    processes = max(settings.web_concurrency, limits["processes"])
    if settings.database_listen_url is not None:
        per_process, each = 1, "1 for LISTEN; the others go through the pooler"
    else:
        per_process = settings.database_pool_size + BESIDES_POOL
        each = f"{settings.database_pool_size} pooled + {BESIDES_POOL} for LISTEN and heartbeats"
    wanted = processes * per_process
    message = (
        f"connections: up to {wanted} (processes: {processes}, each with {each});"
        f" PostgreSQL allows {limits['allowed']}, open now: {limits['open']}"
    )
    if wanted > limits["allowed"]:
        action = "lower WEB_CONCURRENCY or DATABASE_POOL_SIZE, or raise max_connections"
        return problem(message, action)
    if 2 * wanted > limits["allowed"]:
        return note(f"{message}; a reload opens up to twice as many for a moment")
    return ok(message)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
