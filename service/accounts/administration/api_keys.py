"""API keys: the credentials of administrators and of other services (RFC 6750).

A key is an opaque token of 256 random bits, stored as a digest. It has scopes, and a route names
the scope that it requires. No process caches keys: each request reads its key, so that a revoked
key is rejected by the next request in every process.
"""

import contextlib
import logging
import re
from collections.abc import Collection
from enum import StrEnum
from typing import Any, NamedTuple

import sql
from service.accounts.sessions.opaque_tokens import digest_of, new_token
from service.accounts.throttling.throttle import Throttle
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import Database
from service.http.auth import invalid_key
from service.http.client import Client

logger = logging.getLogger(__name__)

PREFIX = "conduit_key_"
"""The start of every key. Scanners for leaked secrets recognize it."""

USE_INTERVAL = 3600  # Minimum seconds between two updates of ``last_used_at``.

CLI = "cli"
"""The actor of the commands of ``run.py users``. No key has this name."""

_LENGTH = len(PREFIX) + 43
_NAME = r"[a-z0-9][a-z0-9._-]{0,49}"


class Scope(StrEnum):
    """What a key may do, with one sentence for the operator."""

    meaning: str

    def __new__(cls, scope: str, meaning: str) -> "Scope":
        """Create a member whose value is ``scope``."""
        member = str.__new__(cls, scope)
        member._value_ = scope
        member.meaning = meaning
        return member

    USERS_READ = "users:read", "Show accounts and their sessions, and export accounts."
    USERS_WRITE = "users:write", "Lock, sign out, verify, reset and delete accounts."
    EVENTS_READ = "events:read", "Read the security log of all accounts."
    TOKENS_INTROSPECT = "tokens:introspect", "Ask whether a token is valid (RFC 7662)."


class ApiKeyError(Exception):
    """A key cannot be created. The message is one sentence for the operator."""

    exit_status = 2


class ApiKey(NamedTuple):
    """The key of a request, as handlers see it in ``request["key"]``."""

    name: str
    scopes: Collection[str]


class ApiKeys:
    """Find the key of a request in the database."""

    def __init__(self, database: Database, throttle: Throttle) -> None:
        self._database = database
        self._throttle = throttle

    async def authenticate(self, plain: str, client: Client) -> ApiKey:
        """Return the key whose text is ``plain``.

        Raise ``InvalidKey`` if it is unknown or revoked, and ``TooManyAttempts`` after too many
        of these from the IP address of ``client``. A valid key is never throttled.
        """
        if len(plain) != _LENGTH or not plain.startswith(PREFIX) or not plain.isascii():
            raise invalid_key()
        row = await sql.api_keys.find(
            self._database, digest=digest_of(plain), interval=USE_INTERVAL
        )
        if row is None or row["is_revoked"]:
            await self._throttle.admit_wrong_key(client)
            if row is not None:
                # A program still has it, or a thief.
                logger.warning("revoked API key used: key=%s ip=%s", row["name"], client.ip)
            raise invalid_key()
        if not row["is_use_recorded"]:
            # A database that only reads, after a failover, must not reject the key.
            with contextlib.suppress(DatabaseUnavailable):
                await sql.api_keys.record_use(self._database, id=row["id"])
        return ApiKey(row["name"], frozenset(row["scopes"]))


async def create_key(database: Database, name: str, scopes: Collection[str]) -> str:
    """Create a key and return its text, which is not stored. Raise ``ApiKeyError``."""
    if re.fullmatch(_NAME, name) is None or name == CLI:
        raise ApiKeyError(
            "The name of a key consists of a-z, 0-9, '.', '_' and '-', begins with a letter or a "
            f"digit, has at most 50 characters, and is not {CLI}."
        )
    if unknown := sorted(set(scopes) - set(Scope)):
        raise ApiKeyError(f"There is no scope {unknown[0]!r}. The scopes are {', '.join(Scope)}.")
    if not scopes:
        raise ApiKeyError("A key needs at least one scope.")
    token = new_token()
    plain = PREFIX + token.plain
    created = await sql.api_keys.insert(
        database, name=name, digest=digest_of(plain), scopes=sorted(set(scopes))
    )
    if created is None:
        raise ApiKeyError(f"A key has the name {name} already. Choose another name.")
    return plain


async def list_keys(database: Database) -> list[Any]:
    """Return the rows of all keys by name, also of the revoked ones."""
    return await sql.api_keys.list(database)


async def revoke_key(database: Database, name: str) -> bool | None:
    """Revoke the key ``name``, for the next request in every process.

    Return whether it was valid before, or ``None`` if no key has this name.
    """
    row = await sql.api_keys.revoke(database, name=name)
    return row["has_changed"] if row is not None else None
