"""Test that the migrations keep the rows of earlier versions."""

from collections.abc import Callable
from typing import Any

import psycopg
import yoyo

from service.database import migrate as module
from service.database.migrate import MIGRATIONS, migrate

BODY = """\
There were too many logins to your account with a wrong password. The last
one was on 24 November 2026, 08:00 UTC from the IP address 192.0.2.1.

All of these logins failed. For up to 60 minutes, more logins are
rejected, even with the correct password.
"""


def migrate_to(url: str, last: str) -> None:
    """Apply the migrations up to the one with the number ``last``."""
    with psycopg.connect(url) as connection:
        backend_url = module._yoyo_url(connection)
    migrations = yoyo.read_migrations(str(MIGRATIONS))
    with yoyo.get_backend(backend_url) as backend:
        for migration in migrations:
            if migration.id[:4] <= last:
                backend.apply_one(migration)


def test_migration_keeps_the_mails_that_wait(new_database: Callable[[], str]) -> None:
    url = new_database()
    migrate_to(url, "0010")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into outbox (recipient, subject, body, attempts)"
            " values ('alice@example.test', 'x', %s, 2)",
            (BODY,),
        )
        migrate(url, lambda _: None)
        row: Any = connection.execute(
            "select recipient, template, language, values, state, attempts, finished_at from outbox"
        ).fetchone()
    values = {"time": "24 November 2026, 08:00 UTC", "ip": "192.0.2.1", "minutes": "60"}
    assert row == ("alice@example.test", "lockout", "en", values, "pending", 2, None)
