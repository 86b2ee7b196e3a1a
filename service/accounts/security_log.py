"""The security log: what happened to an account, from where.

What an account's owner needs to notice a stranger (OWASP Session Management Cheat Sheet, "Logging
Sessions Life Cycle"). A line is written in the transaction that does the thing.
"""

from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.database.pool import DATABASE, Database
from service.http.client import client_address
from service.http.openapi.schemas import TIME, Named, array_of, integer, nullable, object_of, string
from service.http.parameters import LARGEST, Number, QueryString
from service.http.responses import json_response, timestamp
from service.http.routes import RouteTableDef

LONGEST_USER_AGENT = 300

routes = RouteTableDef(tag="Sessions")

ID = integer(example=1, lowest=1, highest=LARGEST)
EVENT = Named(
    "Event",
    object_of(
        id=ID,
        kind=string(example="signed_in"),
        created_at=TIME,
        ip=nullable(string(example="192.0.2.7")),
        user_agent=nullable(string(example="Mozilla/5.0")),
        session_id=nullable(string(example="0b7a1f52-6a5e-4f0e-9d3a-5f2f0b9a3c11", form="uuid")),
    ),
)

PAGE = QueryString(limit=(Number(1, 100), 20), before=(Number(1, LARGEST), None))


@routes.get(
    "/api/user/events",
    query=PAGE,
    answers={200: object_of(events=array_of(EVENT), next_before=nullable(ID))},
)
async def list_events(request: web.Request) -> web.StreamResponse:
    """The account's log, newest first; ``next_before`` asks for what is older."""
    page = PAGE.read(request)
    # One more than asked for tells whether there are more.
    rows = await sql.events.list(
        request.app[DATABASE],
        user_id=request["user"].id,
        before=page["before"] or LARGEST,
        limit=page["limit"] + 1,
    )
    shown = rows[: page["limit"]]
    next_before = shown[-1]["id"] if len(rows) > len(shown) else None
    return json_response({"events": [_event(row) for row in shown], "next_before": next_before})


async def write_event(
    request: web.Request,
    db: Database | sql.Connection,
    kind: str,
    *,
    user_id: UUID | None,
    session_id: UUID | None = None,
) -> None:
    """Note that ``request`` did something of this ``kind``, in the transaction of ``db``.

    ``user_id`` is whose account it was done to, or ``None`` where there is no such account;
    ``session_id`` the session it was done in, or to.
    """
    await sql.events.insert(
        db, user_id=user_id, kind=kind, session_id=session_id, **origin(request)
    )


def origin(request: web.Request) -> dict[str, str | None]:
    """The columns ``ip`` and ``user_agent`` of whoever sends ``request``; null where not known."""
    user_agent = request.headers.get("User-Agent", "")[:LONGEST_USER_AGENT]
    # aiohttp passes bytes that are not UTF-8 on as surrogates, which PostgreSQL can't hold.
    readable = user_agent.encode(errors="surrogateescape").decode(errors="replace")
    return {"ip": client_address(request) or None, "user_agent": readable or None}


def _event(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "kind": row["kind"],
        "created_at": timestamp(row["created_at"]),
        "ip": row["ip"],
        "user_agent": row["user_agent"],
        "session_id": str(row["session_id"]) if row["session_id"] is not None else None,
    }
