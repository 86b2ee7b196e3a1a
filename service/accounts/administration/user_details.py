"""Find a user by a name that an administrator knows, and describe them."""

import contextlib
from typing import Any
from uuid import UUID

import voluptuous as vol

import sql
from service.accounts import fields
from service.accounts.administration.user_list import optional_timestamp, summary
from service.accounts.sessions.device_names import device_names
from service.database.pool import Database
from service.http.parameters import is_storable
from service.http.responses import timestamp
from service.settings.settings import Settings

MAX_SESSIONS = 100
"""Sessions in a description: those that were used last."""
MAX_EVENTS = 20


class AmbiguousName(Exception):
    """One user has the name as their email, and another one as their username."""

    def __init__(self, ids: list[UUID]) -> None:
        super().__init__(f"is the email of {ids[0]} and the username of {ids[1]}")
        self.ids = ids


async def find_user(database: Database, name: str) -> UUID | None:
    """Return the id of the user with the email, the username or the id ``name``, or ``None``.

    The id of a user always means this user, also if another user has it as their username. Raise
    ``AmbiguousName`` if the name is the email of one user and the username of another: a stranger
    must not choose whom an administrator deletes.
    """
    if not is_storable(name):
        return None
    keys = _keys(name)
    rows = await sql.user_details.find_by_name(database, **keys)
    user_id: UUID | None = keys["id"]
    ids = [row["id"] for row in sorted(rows, key=lambda row: not row["has_email"])]
    if user_id in ids:
        return user_id
    if len(ids) > 1:
        raise AmbiguousName(ids)
    return ids[0] if ids else None


async def find_users(database: Database, name: str) -> list[dict[str, Any]]:
    """Return the users with the id, the email or the username ``name``, ready for JSON.

    Strangers choose usernames, so there may be up to three.
    """
    rows = await sql.user_details.find_by_name(database, **_keys(name))
    found = [
        await sql.user_details.describe(database, user_id=row["id"])
        for row in sorted(rows, key=lambda row: not row["has_email"])
    ]
    return [summary(row) for row in found if row is not None]


def _keys(name: str) -> dict[str, Any]:
    """Return what ``name`` may be: an id, the key of an email, the key of a username."""
    email_key = None
    with contextlib.suppress(vol.Invalid):  # It may be a username.
        email_key = fields.email_key(fields.email(name))
    return {
        "id": _id_or_none(name),
        "email_key": email_key,
        "username_key": fields.uniqueness_key(name),
    }


def _id_or_none(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


async def describe_user(
    database: Database, user_id: UUID, settings: Settings
) -> dict[str, Any] | None:
    """Return what an administrator sees of a user, ready for JSON, or ``None`` without such a user.

    It has the ways to sign in, the open sessions and the latest events, without secrets.
    """
    described = await describe_account(database, user_id, settings)
    if described is None:
        return None
    events = await sql.user_details.list_events(database, user_id=user_id, limit=MAX_EVENTS)
    return {**described, "events": [event_json(event) for event in events]}


async def describe_account(
    database: Database, user_id: UUID, settings: Settings
) -> dict[str, Any] | None:
    """Return what ``describe_user`` does without the events, which need another scope."""
    row = await sql.user_details.describe(database, user_id=user_id)
    if row is None:
        return None
    failures, limit = row["failed_logins_in_a_row"], settings.consecutive_failure_limit
    return {
        **summary(row),
        "updated_at": timestamp(row["updated_at"]),
        "recovery_codes_left": row["recovery_codes_left"],
        "failed_logins_in_a_row": failures,
        "is_login_locked": bool(limit) and failures >= limit,
        "sign_in_methods": {
            "password": row["has_password"],
            "passkeys": [
                {
                    "id": str(passkey["id"]),
                    "name": passkey["name"],
                    "created_at": timestamp(passkey["created_at"]),
                    "last_used_at": optional_timestamp(passkey["last_used_at"]),
                }
                for passkey in await sql.passkeys.list(database, user_id=user_id)
            ],
            "identities": [
                {
                    "id": str(identity["id"]),
                    "issuer": identity["issuer"],
                    "subject": identity["subject"],
                    "email": identity["email"],
                    "created_at": timestamp(identity["created_at"]),
                    "last_used_at": timestamp(identity["last_used_at"]),
                }
                for identity in await sql.identities.list(database, user_id=user_id)
            ],
        },
        "sessions": await list_sessions(database, user_id),
    }


async def list_sessions(database: Database, user_id: UUID) -> list[dict[str, Any]]:
    """Return the open sessions of a user, ready for JSON: at most ``MAX_SESSIONS``."""
    rows = await sql.user_details.list_sessions(database, user_id=user_id, limit=MAX_SESSIONS)
    names = await device_names([row["user_agent"] for row in rows])
    return [
        {
            "id": str(row["id"]),
            "created_at": timestamp(row["created_at"]),
            "last_used_at": timestamp(row["last_used_at"]),
            "expires_at": timestamp(row["expires_at"]),
            "ip": row["ip"],
            "user_agent": row["user_agent"],
            "device_name": name,
        }
        for row, name in zip(rows, names, strict=True)
    ]


def event_json(row: Any) -> dict[str, Any]:
    """Return an event as administrators see it: also who acted, and from where."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "created_at": timestamp(row["created_at"]),
        "ip": row["ip"],
        "user_agent": row["user_agent"],
        "session_id": str(row["session_id"]) if row["session_id"] is not None else None,
        "amr": row["amr"],
        "actor": row["actor"],
    }
