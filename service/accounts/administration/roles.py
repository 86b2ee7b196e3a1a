"""Give roles to users, and take them away. Only administrators do that.

``request["user"].roles`` has the roles. A change invalidates the cached user in every process, so
the next request sees it.
"""

import re
from collections.abc import Collection
from typing import Any
from uuid import UUID

import voluptuous as vol

import sql
from service.accounts.security_log import EventKind, write_event
from service.http.client import Client
from service.http.errors import BLANK
from service.http.openapi.schemas import json_schema

MAX_ROLES = 20  # `users_roles_check` has the same limit.
_NAME = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,49}")


class UnknownUser(Exception):
    """No open account has this id."""


def role(value: Any) -> str:
    """Return the name of a role. Raise ``vol.Invalid``.

    The claim ``roles`` of an access token has the names, and they need no escaping in JSON.
    """
    if not isinstance(value, str):
        raise vol.Invalid("must be strings")
    if not _NAME.fullmatch(value):
        raise vol.Invalid(
            "must have 1 to 50 characters: lower-case letters, digits, and after the first also "
            "_ . : -"
        )
    return value


ROLES = {
    "type": "array",
    "items": {"type": "string", "pattern": f"^{_NAME.pattern}$", "examples": ["editor"]},
    "maxItems": MAX_ROLES,
}


@json_schema(ROLES)
def roles(value: Any) -> list[str]:
    """Return a list of roles, sorted and without duplicates. Raise ``vol.Invalid``."""
    if value is None:
        raise vol.Invalid(BLANK)
    if not isinstance(value, list):
        raise vol.Invalid("must be a list")
    if len(value) > MAX_ROLES:
        raise vol.Invalid(f"must have at most {MAX_ROLES} roles")
    return sorted({role(item) for item in value})


async def set_roles(
    connection: sql.Connection, client: Client, user_id: UUID, wanted: Collection[str]
) -> list[str]:
    """Replace the roles of a user by ``wanted``, and return them. ``client`` is the administrator.

    The statements must run in one transaction. Raise ``UnknownUser``, and ``vol.Invalid`` as
    ``roles`` does.
    """
    before = await _lock(connection, user_id)
    return await _replace(connection, client, user_id, before, wanted)


async def change_roles(
    connection: sql.Connection,
    client: Client,
    user_id: UUID,
    *,
    add: Collection[str] = (),
    remove: Collection[str] = (),
) -> list[str]:
    """Add and remove roles of a user, and return all of them. ``client`` is the administrator.

    The statements must run in one transaction. Of two simultaneous changes neither is lost. Raise
    ``UnknownUser``, and ``vol.Invalid`` as ``roles`` does.
    """
    before = await _lock(connection, user_id)
    wanted = {*before, *add} - set(remove)
    return await _replace(connection, client, user_id, before, wanted)


async def _lock(connection: sql.Connection, user_id: UUID) -> list[str]:
    """Lock the user's row and return their roles. Raise ``UnknownUser``."""
    await sql.sessions.lock_user(connection, user_id=user_id)
    before = await sql.roles.find(connection, user_id=user_id)
    if before is None:
        raise UnknownUser
    return list(before)


async def _replace(
    connection: sql.Connection,
    client: Client,
    user_id: UUID,
    before: list[str],
    wanted: Collection[str],
) -> list[str]:
    """Store the roles ``wanted`` and log the change, unless the user has exactly these."""
    after = roles(list(wanted))
    if after != before:
        await sql.roles.replace(connection, user_id=user_id, roles=after)
        await write_event(connection, client, EventKind.ROLES_CHANGED, user_id=user_id)
    return after
