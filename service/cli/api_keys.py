"""``run.py keys create``, ``keys list`` and ``keys revoke``: manage API keys."""

import sys
from typing import Any

from service.accounts.administration.api_keys import create_key, list_keys, revoke_key
from service.cli.database import run_with_database
from service.cli.terminal import table, terminal_width, write_json
from service.database.pool import Database
from service.http.responses import timestamp
from service.settings.settings import Settings


def create(settings: Settings, key_name: str, scopes: list[str]) -> int:
    """Create an API key with a name and scopes, and print it once."""

    async def work(database: Database) -> str:
        return await create_key(database, key_name, scopes)

    plain = run_with_database(settings, work)
    print(f"The key {key_name} is created. It is shown only now:", file=sys.stderr)
    print(plain)
    return 0


def list_all(settings: Settings, json: bool) -> int:
    """List the API keys, also those that are revoked."""
    rows = run_with_database(settings, list_keys)
    if json:
        for row in rows:
            write_json(_item(row))
    elif rows:
        lines = [_columns(row) for row in rows]
        header = ("NAME", "SCOPES", "CREATED", "LAST USED", "REVOKED")
        print("\n".join(table(header, lines, terminal_width())))
    return 0


def revoke(settings: Settings, key_name: str) -> int:
    """Revoke an API key. The next request with it is rejected."""

    async def work(database: Database) -> bool | None:
        return await revoke_key(database, key_name)

    was_valid = run_with_database(settings, work)
    if was_valid is None:
        print(f"No key has the name {key_name}.", file=sys.stderr)
        return 1
    print(f"The key {key_name} {'is revoked' if was_valid else 'was revoked already'}.")
    return 0


def _item(row: Any) -> dict[str, Any]:
    times = {
        name: timestamp(row[name]) if row[name] is not None else None
        for name in ("created_at", "last_used_at", "revoked_at")
    }
    return {"name": row["name"], "scopes": row["scopes"], **times}


def _columns(row: Any) -> tuple[str, ...]:
    times = (_minute(row[name]) for name in ("created_at", "last_used_at", "revoked_at"))
    return (row["name"], " ".join(row["scopes"]), *times)


def _minute(time: Any) -> str:
    """Return a time to the minute, in UTC."""
    return str(time.strftime("%Y-%m-%d %H:%M")) if time is not None else "never"
