"""List the users for an administrator: the newest first, page by page.

A page examines a bounded number of users. A filter that few users match may give a page with fewer
users than the limit, or with none, that is not the last one.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sql
from service.accounts import fields
from service.database.pool import Database
from service.http.responses import timestamp

MAX_EXAMINED = 10_000
"""Users that one page examines. That takes some 20 ms."""
MAX_LIMIT = 1000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
NEWEST = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))

_CURSOR = r"(-?[0-9]{1,18})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"


class UserFilter(NamedTuple):
    """Which users a list has. ``None`` means any."""

    text: str | None = None
    """A part of the username or of the email, without regard to case."""
    is_locked: bool | None = None
    is_verified: bool | None = None


class UserPage(NamedTuple):
    """A page of users, ready for JSON."""

    users: list[dict[str, Any]]
    next_after: str | None
    """The cursor of the next page, or ``None`` after the last one."""


async def list_users(
    database: Database,
    which: UserFilter,
    *,
    limit: int,
    after: str | None = None,
) -> UserPage:
    """Return at most ``limit`` users, the newest first, after the cursor of the page before.

    Raise ``ValueError`` if ``after`` is no cursor.
    """
    before_time, before_id = NEWEST if after is None else _parse_cursor(after)
    rows = await sql.user_list.list(
        database,
        text=fields.uniqueness_key(which.text) if which.text is not None else None,
        is_locked=which.is_locked,
        is_verified=which.is_verified,
        before_time=before_time,
        before_id=before_id,
        max_examined=MAX_EXAMINED,
        # One more than the limit tells whether there are others.
        limit=limit + 1,
    )
    matches = [row for row in rows if row["is_match"]]
    shown = matches[:limit]
    if len(matches) > limit:
        last = shown[-1]
    elif rows and rows[-1]["is_last"]:
        last = rows[-1]
    else:
        return UserPage([summary(row) for row in shown], None)
    return UserPage([summary(row) for row in shown], _cursor(last))


def summary(row: Any) -> dict[str, Any]:
    """Return the user in ``row`` as lists show them."""
    return {
        "id": str(row["id"]),
        "username": row["username"],
        "email": row["email"],
        "email_verified_at": optional_timestamp(row["email_verified_at"]),
        "created_at": timestamp(row["created_at"]),
        "locked_at": optional_timestamp(row["locked_at"]),
        "two_factor_since": optional_timestamp(row["two_factor_since"]),
        "roles": list(row["roles"]),
    }


def optional_timestamp(time: datetime | None) -> str | None:
    """Return ``time`` as text, or ``None``."""
    return timestamp(time) if time is not None else None


def _cursor(row: Any) -> str:
    """Return the place after ``row``. It stays valid when the user is deleted."""
    return f"{(row['created_at'] - EPOCH) // MICROSECOND}.{row['id']}"


def _parse_cursor(text: str) -> tuple[datetime, UUID]:
    match = re.fullmatch(_CURSOR, text)
    if match is None:
        raise ValueError("is no place in the list")
    try:
        return EPOCH + int(match[1]) * MICROSECOND, UUID(match[2])
    except OverflowError:
        raise ValueError("is no place in the list") from None
