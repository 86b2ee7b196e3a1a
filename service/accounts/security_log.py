"""Record the security events of each account, with IP address and user agent.

With this log, owners can notice that another person uses their account (OWASP Session Management
Cheat Sheet, "Logging Sessions Life Cycle"). An event is inserted in the transaction that causes it.
"""

from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.database.pool import DATABASE, Database
from service.http.client import Client
from service.http.openapi.schemas import TIME, Named, array_of, integer, nullable, object_of, string
from service.http.parameters import LARGEST, Number, QueryString
from service.http.responses import json_response, timestamp
from service.http.routes import RouteTableDef

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
    operation_id="ListEvents",
    query=PAGE,
    responses={200: object_of(events=array_of(EVENT), next_before=nullable(ID))},
)
async def list_events(request: web.Request) -> web.StreamResponse:
    """List the security events of the account, newest first.

    To get older events, pass ``next_before`` of the response as ``before``. It is null when there
    are no older events.
    """
    page = PAGE.read(request)
    # Select one row more than the limit, to find out whether there are older events.
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
    db: Database | sql.Connection,
    client: Client,
    kind: str,
    *,
    user_id: UUID | None,
    session_id: UUID | None = None,
) -> None:
    """Insert an event of this ``kind``, caused by ``client``, in the transaction of ``db``.

    ``user_id`` is the account of the event, or ``None`` when the account does not exist.
    ``session_id`` is the session that caused the event, or the session that the event affects.
    """
    await sql.events.insert(
        db,
        user_id=user_id,
        kind=kind,
        session_id=session_id,
        ip=client.ip,
        user_agent=client.user_agent,
    )


def _event(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "kind": row["kind"],
        "created_at": timestamp(row["created_at"]),
        "ip": row["ip"],
        "user_agent": row["user_agent"],
        "session_id": str(row["session_id"]) if row["session_id"] is not None else None,
    }
