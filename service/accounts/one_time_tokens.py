"""Tokens for one purpose and for one use: mailed to the owner of an account, or challenges.

A token has 256 random bits, and the database has only its digest. A token of one purpose is unknown
to the routes of every other purpose, and stays unused there. The token alone names the account.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson

import sql
from service.accounts.sessions.opaque_tokens import digest_of, new_token
from service.database.pool import Database
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, NotFound
from service.http.parameters import filter_text
from service.http.validation import Text

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

KEEP_EXPIRED = 7 * DAY
"""Seconds to keep an expired token. Until then the response to it says that it has expired."""

TOKEN = Text(filter_text, longest=100, example="kF7n0m9u1uY7b0uXKk9o0l1VwJm0b6vG5q2cQw8tZrE")
"""The validator of a presented token. It rejects what no token can be without a query."""


class Purpose(StrEnum):
    """The purpose of a token, with its lifetime and the number of valid tokens.

    ``ttl`` is in seconds. ``max_count`` is the maximum of valid tokens for each user (``REPORT``:
    for each email of a user). One more replaces the oldest. It is above 1 where a request for
    another mail must not invalidate the link in a mail that is on its way.
    """

    ttl: int
    max_count: int

    def __new__(cls, purpose: str, ttl: int, max_count: int) -> "Purpose":
        """Create a member whose value is ``purpose``."""
        member = str.__new__(cls, purpose)
        member._value_ = purpose
        member.ttl = ttl
        member.max_count = max_count
        return member

    VERIFY_EMAIL = "verify_email", DAY, 5
    RESET_PASSWORD = "reset_password", HOUR, 5
    CHANGE_EMAIL = "change_email", DAY, 1
    REPORT = "report", 7 * DAY, 20
    UNLOCK_LOGIN = "unlock_login", DAY, 5
    # A thief who knows the password must not replace the challenge of the owner.
    TWO_FACTOR = "two_factor", 5 * MINUTE, 100
    PASSKEY_REGISTRATION = "passkey_registration", 5 * MINUTE, 5
    PASSKEY_LOGIN = "passkey_login", 5 * MINUTE, 1
    """A challenge without a user. The rate limit of the IP address bounds their number."""
    # The steps of a sign-in through a provider have no user either.
    PROVIDER_START = "provider_start", 10 * MINUTE, 1
    PROVIDER_STATE = "provider_state", 10 * MINUTE, 1
    PROVIDER_CODE = "provider_code", MINUTE, 1
    LINK_CODE = "link_code", MINUTE, 1
    REAUTHENTICATION_CODE = "reauthentication_code", MINUTE, 1


REVOKED_BY_PASSWORD_CHANGE = frozenset(Purpose) - {Purpose.REPORT}
"""The purposes of the tokens that a changed password revokes.

A thief may have changed the password. The link of the owner that reports it must stay valid.
"""

REVOKED_BY_EMAIL_CHANGE = REVOKED_BY_PASSWORD_CHANGE
"""The purposes of the tokens that a changed email revokes: they were mailed to the old email.

The reports stay valid too, except in an account that never had a verified email.
"""

REVOKED_BY_ACCOUNT_LOCK = REVOKED_BY_PASSWORD_CHANGE
"""The purposes of the tokens that the lock of an account revokes.

A report opens no session. It may undo what a thief did, also while the account is locked.
"""


class LinkExpired(ApiError):
    """410: the token of a mailed link has expired."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.LINK_EXPIRED, {"token": ["has expired"]})


async def issue(
    connection: sql.Connection,
    purpose: Purpose,
    user_id: UUID,
    *,
    email: str | None = None,
    email_key: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> str:
    """Insert a token of ``purpose`` for a user, about ``email``, and return it.

    ``data`` is what the service must remember until the token is used. It is stored as JSON.
    The transaction of ``connection`` must hold the lock on the user's row, or insert that row.
    """
    token = new_token()
    await sql.one_time_tokens.insert(
        connection,
        digest=token.digest,
        purpose=purpose,
        user_id=user_id,
        email=email,
        email_key=email_key,
        ttl=purpose.ttl,
        max_count=purpose.max_count,
        data=orjson.dumps(data).decode() if data is not None else None,
    )
    return token.plain


async def find(db: Database | sql.Connection, purpose: Purpose, token: str) -> Any:
    """Return the row of a valid token, with ``user_id`` and ``email``. Do not consume it.

    Raise ``NotFound`` if the token is unknown, was used, or has another purpose. Raise
    ``LinkExpired`` if it has expired.
    """
    row = await sql.one_time_tokens.find(db, digest=digest_of(token), purpose=purpose)
    if row is None:
        raise NotFound("token")
    if row["is_expired"]:
        raise LinkExpired
    return row


async def consume(
    connection: sql.Connection,
    purpose: Purpose,
    token: str,
    *,
    lock: sql.AnyQuery = sql.sessions.lock_user,
) -> Any:
    """Use a token. Return its row, with ``user_id``, ``email``, ``email_key`` and ``data``.

    First lock the user's row with ``lock``. Every transaction that changes an account locks this
    row before its tokens, so that no two of them deadlock. The lock is held until the transaction
    ends. The errors are those of ``find``: of simultaneous uses, all but one raise ``NotFound``.
    """
    found = await find(connection, purpose, token)
    await lock(connection, user_id=found["user_id"])
    row = await sql.one_time_tokens.consume(connection, digest=digest_of(token), purpose=purpose)
    if row is None:
        raise NotFound("token")
    return row


async def revoke(connection: sql.Connection, user_id: UUID, purposes: Collection[Purpose]) -> None:
    """Delete the unused tokens of a user for ``purposes``.

    The transaction of ``connection`` must hold the lock on the user's row.
    """
    await sql.one_time_tokens.revoke(connection, user_id=user_id, purposes=list(purposes))
