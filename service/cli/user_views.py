"""``run.py users list``, ``users show`` and ``users export``: look at users."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from service.accounts.administration.user_actions import log_export
from service.accounts.administration.user_details import describe_user
from service.accounts.administration.user_list import UserFilter, list_users
from service.cli.database import run_with_database
from service.cli.terminal import cut, escape_json, safe, table, terminal_width, write_json
from service.cli.users import COMMAND, UserError, user_named
from service.conduit.export import export_document
from service.database.pool import Database
from service.settings.settings import Settings

DEFAULT_LIMIT = 50
PAGE = 500


def list_all(
    settings: Settings,
    search: str | None,
    locked: bool,
    unverified: bool,
    limit: int | None,
    after: str | None,
    json: bool,
) -> int:
    """List accounts, the newest first."""
    which = UserFilter(
        search, is_locked=True if locked else None, is_verified=False if unverified else None
    )
    wanted = limit if limit is not None or json else DEFAULT_LIMIT

    async def work(database: Database) -> tuple[list[dict[str, Any]], str | None]:
        shown: list[dict[str, Any]] = []
        count, place = 0, after
        while True:
            size = PAGE if wanted is None else min(PAGE, wanted - count)
            page = await list_users(database, which, limit=size, after=place)
            count, place = count + len(page.users), page.next_after
            if json:
                # A program may read any number of users.
                for user in page.users:
                    write_json(user)
            else:
                shown += page.users
            if place is None or count == wanted:
                return shown, place

    try:
        users, place = run_with_database(settings, work)
    except ValueError as error:
        print(f"{safe(after)} {error}.", file=sys.stderr)
        return 2
    if json:
        return 0
    rows = [
        (user["username"], user["email"], _minute(user["created_at"]), _state(user))
        for user in users
    ]
    print("\n".join(table(("USERNAME", "EMAIL", "REGISTERED", "STATE"), rows, terminal_width())))
    if place is not None:
        print(f"There may be more: add --after {place}", file=sys.stderr)
    return 0


def show(settings: Settings, user: str, json: bool) -> int:
    """Show an account: its ways to sign in, its open sessions and its latest events."""

    async def work(database: Database) -> dict[str, Any] | None:
        return await describe_user(database, await user_named(database, user), settings)

    found = run_with_database(settings, work)
    if found is None:
        raise UserError(f"The account of {safe(user)} has just changed.")
    if json:
        write_json(found)
    else:
        print("\n".join(_description(found, terminal_width())))
    return 0


def export(settings: Settings, user: str) -> int:
    """Print everything that is stored about a user as JSON, as they can export it themselves."""

    async def work(database: Database) -> None:
        user_id = await user_named(database, user)
        document = await export_document(database, user_id, _continue)
        if document is None:
            raise UserError(f"The account of {safe(user)} has just changed.")
        await log_export(database, COMMAND, user_id)
        async for piece in document:
            print(escape_json(piece.decode()), end="")
        print()

    run_with_database(settings, work)
    return 0


async def _continue() -> None:
    """Continue the document after a page: an operator has no session that could end."""


def _state(user: dict[str, Any]) -> str:
    states = {
        "locked": user["locked_at"] is not None,
        "unverified": user["email_verified_at"] is None,
        "two-factor": user["two_factor_since"] is not None,
        **dict.fromkeys(user["roles"], True),
    }
    return ", ".join(name for name, holds in states.items() if holds)


def _minute(time: str | None) -> str:
    """Return the text of a ``timestamp`` to the minute, in UTC."""
    return f"{time[:10]} {time[11:16]}" if time is not None else "never"


def _description(user: dict[str, Any], width: int | None) -> Iterator[str]:
    """Yield the lines that describe ``user``. Times are in UTC."""
    methods = user["sign_in_methods"]
    verified = user["email_verified_at"]
    factor = user["two_factor_since"]
    failures = f"{user['failed_logins_in_a_row']} failed logins in a row"
    fields = {
        "id": user["id"],
        "username": user["username"],
        "email": user["email"],
        "verified": _minute(verified) if verified else "no",
        "registered": _minute(user["created_at"]),
        "locked": _minute(user["locked_at"]) if user["locked_at"] else "no",
        "roles": ", ".join(user["roles"]) or "none",
        "password": (
            f"{'yes' if methods['password'] else 'no'}, {failures}"
            + (", needs the mailed link" if user["is_login_locked"] else "")
        ),
        "two-factor": (
            f"{_minute(factor)}, {user['recovery_codes_left']} recovery codes left"
            if factor
            else "no"
        ),
    }
    longest = max(map(len, fields))
    for name, value in fields.items():
        line = f"{name:{longest}}  {safe(value)}"
        yield line if width is None else cut(line, width)
    lists: dict[str, tuple[tuple[str, ...], Sequence[Sequence[object]]]] = {
        "passkeys": (
            ("NAME", "ADDED", "LAST USED"),
            [
                (passkey["name"], _minute(passkey["created_at"]), _minute(passkey["last_used_at"]))
                for passkey in methods["passkeys"]
            ],
        ),
        "identities": (
            ("ISSUER", "SUBJECT", "EMAIL", "LAST USED"),
            [
                (
                    identity["issuer"],
                    identity["subject"],
                    identity["email"] or "",
                    _minute(identity["last_used_at"]),
                )
                for identity in methods["identities"]
            ],
        ),
        "open sessions, the latest used first": (
            ("LAST USED", "OPENED", "IP ADDRESS", "DEVICE"),
            [
                (
                    _minute(session["last_used_at"]),
                    _minute(session["created_at"]),
                    session["ip"] or "",
                    session["device_name"] or session["user_agent"] or "",
                )
                for session in user["sessions"]
            ],
        ),
        "latest events": (
            ("TIME", "EVENT", "BY", "IP ADDRESS", "USER AGENT"),
            [
                (
                    _minute(event["created_at"]),
                    event["kind"],
                    event["actor"] or "",
                    event["ip"] or "",
                    event["user_agent"] or "",
                )
                for event in user["events"]
            ],
        ),
    }
    for name, (header, rows) in lists.items():
        if rows:
            yield from ("", f"{name}:")
            yield from table(header, rows, width)
