"""Record the security events of each account, with IP address and user agent.

With this log, owners can notice that another person uses their account (OWASP Session Management
Cheat Sheet, "Logging Sessions Life Cycle"). An event is inserted in the transaction that causes it.
"""

from enum import StrEnum
from typing import Any
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.sessions.authentication_methods import Method
from service.database.pool import DATABASE, Database
from service.http.client import Client
from service.http.openapi.schemas import (
    TIME,
    Named,
    array_of,
    boolean,
    integer,
    nullable,
    object_of,
    string,
)
from service.http.parameters import LARGEST, Number, QueryString
from service.http.responses import json_response, timestamp
from service.http.routes import RouteTableDef

routes = RouteTableDef(tag="Sessions")


class EventKind(StrEnum):
    """The ``kind`` of an event, with its meaning: one sentence for the OpenAPI document.

    The kind of the event that ended a session is also the ``end_reason`` of the session.
    """

    meaning: str

    def __new__(cls, kind: str, meaning: str) -> "EventKind":
        """Create a member whose value is ``kind``."""
        member = str.__new__(cls, kind)
        member._value_ = kind
        member.meaning = meaning
        return member

    REGISTERED = (
        "registered",
        "The account was registered. Its first session was opened, except with "
        "`REQUIRE_VERIFIED_EMAIL`.",
    )
    SIGNED_IN = "signed_in", "A login opened a session."
    SIGN_IN_FAILED = (
        "sign_in_failed",
        "A login, a reauthentication, a change of the user or a deletion had a wrong password, or "
        "a passkey could not be verified.",
    )
    SIGN_IN_DENIED = (
        "sign_in_denied",
        "A login had the right password or passkey but exceeded `SESSION_LIMIT` with the policy "
        "`deny`, or `REQUIRE_VERIFIED_EMAIL` was set and the email was not verified, or "
        "the login or the account was locked.",
    )
    LOGIN_UNLOCKED = "login_unlocked", "A mailed link unlocked the login."
    TWO_FACTOR_REQUIRED = (
        "two_factor_required",
        "A login had the right password and was asked for the second factor.",
    )
    TWO_FACTOR_FAILED = "two_factor_failed", "A code of the second factor was wrong or was used."
    TWO_FACTOR_ENABLED = (
        "two_factor_enabled",
        "A second factor was turned on, or its secret was replaced.",
    )
    TWO_FACTOR_DISABLED = "two_factor_disabled", "The second factor was turned off."
    RECOVERY_CODE_USED = "recovery_code_used", "A recovery code was used."
    RECOVERY_CODES_REPLACED = "recovery_codes_replaced", "The recovery codes were replaced."
    THROTTLED = "throttled", "A wrong password reached a limit of `LOGIN_LIMITS`."
    SIGNED_OUT = "signed_out", "The session logged out."
    REAUTHENTICATED = (
        "reauthenticated",
        "The person of a session proved again who they are. Another session replaced it.",
    )
    SESSION_ENDED = (
        "session_ended",
        "The session was ended from the session list, by a changed or reset password, with "
        "`end_other_sessions`, by a report, by the lock of the account, or by an administrator.",
    )
    SIGNED_OUT_BY_ADMINISTRATOR = (
        "signed_out_by_administrator",
        "An administrator ended one session, or all of them.",
    )
    EVICTED = "evicted", "A login over `SESSION_LIMIT` ended the session."
    REFRESH_TOKEN_REUSED = (
        "refresh_token_reused",
        "A refresh token was used a second time, which ended the session.",
    )
    PASSWORD_RESET_REQUESTED = (
        "password_reset_requested",
        "A mail with a link that resets the password was requested by a person or an "
        "administrator.",
    )
    PASSWORD_REVOKED = (
        "password_revoked",
        "An administrator started a reset and made the password useless, which ended all sessions.",
    )
    PASSWORD_RESET = (
        "password_reset",
        "The password was reset with a mailed link, which also verified the email.",
    )
    PASSKEY_ADDED = "passkey_added", "A passkey was added."
    PASSKEY_REMOVED = "passkey_removed", "A passkey was removed."
    PASSKEY_COUNTER_WENT_BACK = (
        "passkey_counter_went_back",
        "A login or a reauthentication with a passkey was rejected because the counter of the "
        "passkey did not increase: the passkey may have been copied.",
    )
    IDENTITY_LINKED = "identity_linked", "An identity at a provider was linked."
    IDENTITY_UNLINKED = "identity_unlinked", "An identity at a provider was unlinked."
    TAKEN_OVER = (
        "taken_over",
        "The owner of an email that was never verified signed in through a provider. Every other "
        "way in was removed.",
    )
    PROVIDER_CODE_REUSED = (
        "provider_code_reused",
        "The code of a sign-in through a provider was used a second time, which ended the session.",
    )
    PASSWORD_CHANGED = "password_changed", "The password was changed."
    EMAIL_VERIFIED = (
        "email_verified",
        "The email was verified with a mailed link, or by an administrator.",
    )
    EMAIL_CHANGE_REQUESTED = (
        "email_change_requested",
        "A change of the email was requested, which the owner of the new email must confirm.",
    )
    EMAIL_CHANGED = "email_changed", "The email was changed."
    REPORTED = (
        "reported",
        'A mailed link "This was not me" was used. All sessions were ended, and the password no '
        "longer works.",
    )
    EMAIL_RESTORED = "email_restored", "A report restored the email that was changed."
    ACCOUNT_LOCKED = (
        "account_locked",
        "An administrator locked the account, which ended all sessions.",
    )
    ACCOUNT_UNLOCKED = "account_unlocked", "An administrator unlocked the account."
    EXPORTED = "exported", "An administrator exported what is stored about the account."
    ROLES_CHANGED = "roles_changed", "An administrator changed the roles of the user."
    ACCOUNT_DELETED = (
        "account_deleted",
        "The account was deleted by its user, by the owner of its unverified email, or by an "
        "administrator.",
    )


ID = integer(example=1, lowest=1, highest=LARGEST)
AMR = {
    **array_of({"type": "string", "enum": list(Method), "examples": [Method.PASSWORD]}),
    "description": "The methods of a sign-in (RFC 8176), null for any other event.",
}
EVENT = Named(
    "Event",
    object_of(
        id=ID,
        kind={
            "type": "string",
            "enum": list(EventKind),
            "description": "\n".join(f"- `{kind}`: {kind.meaning}" for kind in EventKind),
            "examples": [EventKind.SIGNED_IN],
        },
        created_at=TIME,
        ip=nullable(string(example="192.0.2.7")),
        user_agent=nullable(string(example="Mozilla/5.0")),
        session_id=nullable(string(example="0b7a1f52-6a5e-4f0e-9d3a-5f2f0b9a3c11", form="uuid")),
        amr=nullable(AMR),
        by_administrator=boolean(example=False),
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
    rows = await sql.security_log.list(
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
    kind: EventKind,
    *,
    user_id: UUID | None,
    session_id: UUID | None = None,
) -> None:
    """Insert an event of this ``kind``, caused by ``client``, in the transaction of ``db``.

    ``user_id`` is the account of the event, or ``None`` when the account does not exist.
    ``session_id`` is the session that caused the event, or the session that the event affects.
    """
    await sql.security_log.insert(
        db,
        user_id=user_id,
        kind=kind,
        session_id=session_id,
        ip=client.ip,
        user_agent=client.user_agent,
        actor=client.actor,
    )


def _event(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "kind": row["kind"],
        "created_at": timestamp(row["created_at"]),
        "ip": row["ip"],
        "user_agent": row["user_agent"],
        "session_id": str(row["session_id"]) if row["session_id"] is not None else None,
        "amr": row["amr"],
        "by_administrator": row["by_administrator"],
    }
