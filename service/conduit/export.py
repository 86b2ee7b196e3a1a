"""Export everything that is stored about a person (GDPR, articles 15 and 20).

The document is written page by page. Each page is one query, and no connection is held while the
client reads. So the document has the state of several moments: it is no snapshot. An account of any
size takes the memory of one page. A client that stops to read is disconnected, and an export that
cannot be completed ends without the end of the document, so that no client takes it for complete.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from aiohttp import hdrs, web

import sql
from service.accounts.sessions.authentication import revoked_token
from service.accounts.sessions.reauthentication import ReauthenticationRequired
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.user import User
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import DATABASE, Database
from service.http.auth import reauthenticate
from service.http.errors import TooManyAttempts
from service.http.openapi.schemas import array_of, object_of
from service.http.responses import timestamp
from service.http.routes import RouteTableDef
from service.http.streamed_json import StreamedJson

routes = RouteTableDef(tag="Accounts")

BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Section:
    """A list of the document."""

    name: str
    query: sql.AnyQuery
    keys: dict[str, tuple[str, Any]]
    """The parameters of the query, each with the column of its value and its value at the start."""
    hidden: frozenset[str] = frozenset()
    """Columns that are only keys."""


def _after(column: str, start: Any) -> dict[str, tuple[str, Any]]:
    return {"after": (column, start)}


def _after_time(time: str, identifier: str) -> dict[str, tuple[str, Any]]:
    return {"after_time": (time, BEGINNING), "after_id": (identifier, 0)}


NO_ID = UUID(int=0)
SECTIONS = (
    Section("sessions", sql.export.list_sessions, _after("id", NO_ID)),
    Section("events", sql.export.list_events, _after("id", 0)),
    Section("known_ips", sql.export.list_known_ips, _after("ip_key", "")),
    Section("links", sql.export.list_links, _after("digest", b""), frozenset({"digest"})),
    Section("passkeys", sql.export.list_passkeys, _after("id", NO_ID)),
    Section("identities", sql.export.list_identities, _after("id", NO_ID)),
    Section(
        "following",
        sql.export.list_following,
        _after("followed_id", NO_ID),
        frozenset({"followed_id"}),
    ),
    Section(
        "articles", sql.export.list_articles, _after_time("created_at", "id"), frozenset({"id"})
    ),
    Section("comments", sql.export.list_comments, _after("id", 0)),
    Section(
        "favorites",
        sql.export.list_favorites,
        _after_time("article_created_at", "article_id"),
        frozenset({"article_created_at", "article_id"}),
    ),
)

EXPORTED_TABLES = {
    "users", "sessions", "events", "known_ips", "one_time_tokens", "passkeys", "identities",
    "recovery_codes",
    "totp_secrets", "consecutive_failures", "follows", "articles", "comments", "favorites",
}  # fmt: skip
"""The tables whose rows about a person are in the document, without secrets and digests."""

OBJECT = {"type": "object", "examples": [{}]}
LIST = array_of(OBJECT)
DOCUMENT = object_of(account=OBJECT, **{section.name: LIST for section in SECTIONS})


@routes.get(
    "/api/user/export",
    operation_id="GetExport",
    fresh=True,
    responses={200: DOCUMENT},
    errors=(ReauthenticationRequired("password"), TooManyAttempts("export", retry_after=60)),
)
async def export(request: web.Request) -> web.StreamResponse:
    """Get everything that is stored about the current user.

    The response is a document of any size: the account, its sessions, security log, known IP
    addresses, valid links, passkeys, identities, follows, articles, comments and favorites. Secrets
    and digests are left out. It is sent while it is read from the database, and ends early if that
    fails.
    """
    user: User = request["user"]
    await request.app[THROTTLE].admit_export(user.id)
    # The session may end while the document is sent.
    document = await export_document(
        request.app[DATABASE], user.id, partial(reauthenticate, request)
    )
    if document is None:
        raise revoked_token()
    return StreamedJson(
        document,
        {str(hdrs.CONTENT_DISPOSITION): 'attachment; filename="account.json"'},
        expected=(DatabaseUnavailable,),
    )


async def export_document(
    database: Database, user_id: UUID, after_page: Callable[[], Awaitable[object]]
) -> AsyncIterator[bytes] | None:
    """Return the document of a user, in pieces of about a megabyte at most.

    ``after_page`` is awaited after each page, and may raise an error to end the document early.
    Return ``None`` if the account does not exist.
    """
    account = await sql.export.find_account(database, user_id=user_id)
    return None if account is None else _document(database, user_id, account, after_page)


async def _document(
    database: Database, user_id: UUID, account: Any, after_page: Callable[[], Awaitable[object]]
) -> AsyncIterator[bytes]:
    yield b'{"account":' + orjson.dumps(_item(account))
    for section in SECTIONS:
        yield b',"' + section.name.encode() + b'":['
        separator = b""
        async for items in _pages(database, user_id, section):
            yield separator + b",".join(items)
            separator = b","
            await after_page()
        yield b"]"
    yield b"}"


async def _pages(database: Database, user_id: UUID, section: Section) -> AsyncIterator[list[bytes]]:
    """Yield the items of a section, one page at a time."""
    after = {name: start for name, (_, start) in section.keys.items()}
    while rows := await section.query(database, user_id=user_id, **after):
        yield [orjson.dumps(_item(row, section.hidden)) for row in rows]
        after = {name: rows[-1][column] for name, (column, _) in section.keys.items()}


def _item(row: Any, hidden: frozenset[str] = frozenset()) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items() if name not in hidden}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    return str(value) if isinstance(value, UUID) else value
