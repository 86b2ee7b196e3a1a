"""The ways in which a user can sign in: the last one cannot be removed."""

from collections.abc import Collection
from uuid import UUID

import sql
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError


class LastSignInMethod(ApiError):
    """409: the user could no longer sign in. ``subject`` is what they want to remove."""

    def __init__(self, subject: str) -> None:
        super().__init__(ErrorCode.LAST_SIGN_IN_METHOD, {subject: ["is the only way to log in"]})


async def require_sign_in_method(
    connection: sql.Connection, user_id: UUID, subject: str, issuers: Collection[str]
) -> None:
    """Check that the user still has a way to sign in. Raise ``LastSignInMethod``.

    Call this after the removal, in its transaction, which the error rolls back. The transaction
    must hold the lock on the user's row: otherwise two requests could each remove one of the last
    two ways. ``subject`` names what was removed. ``issuers`` are those of the providers that are
    set up: an identity at any other is no way to sign in.
    """
    if not await sql.sign_in_methods.has_one(connection, user_id=user_id, issuers=list(issuers)):
        raise LastSignInMethod(subject)
