"""Record the identity that has proved who a person is, once their sign-in is complete."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import sql
from service.accounts.identity_providers.errors import IdentityUnknown, ProviderCodeInvalid
from service.accounts.identity_providers.profile import Profile
from service.accounts.notices import queue_notice
from service.accounts.security_log import EventKind, write_event
from service.accounts.throttling.throttle import Throttle
from service.http.client import Client
from service.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class IdentityProof:
    """An identity that has proved who a person is.

    With a second factor, the sign-in is complete only after the code. Until then the challenge
    remembers this proof.
    """

    issuer: str
    subject: str
    email: str | None
    is_email_verified: bool
    label: str
    """The name of the provider for people."""
    is_new: bool
    """Whether the identity must be linked to the user."""
    code_digest: str | None
    """The digest of the exchange code in hexadecimal, if there was one."""

    @classmethod
    def of(
        cls, profile: Profile, label: str, *, is_new: bool, code_digest: bytes | None
    ) -> "IdentityProof":
        """Return the proof of ``profile``."""
        return cls(
            profile.issuer,
            profile.subject,
            profile.email,
            profile.is_email_verified,
            label,
            is_new,
            code_digest.hex() if code_digest is not None else None,
        )

    @classmethod
    def restore(cls, data: Mapping[str, Any] | None) -> "IdentityProof | None":
        """Return the proof in the data of a challenge, if it has one."""
        return cls(**data) if data is not None else None

    @property
    def data(self) -> dict[str, Any]:
        """The proof as JSON."""
        return asdict(self)

    async def complete(
        self, connection: sql.Connection, user_id: UUID, session_id: UUID | None
    ) -> UUID:
        """Record the identity as used, or link it. Return its id.

        ``session_id`` is the session that was opened, if one was. Raise ``IdentityUnknown`` if it
        was unlinked meanwhile, and ``ProviderCodeInvalid`` if the code was presented again. The
        unique constraints decide between accounts that link it at the same time.
        """
        identity = {
            "user_id": user_id,
            "issuer": self.issuer,
            "subject": self.subject,
            "email": self.email,
            "is_email_verified": self.is_email_verified,
        }
        if self.is_new:
            # Only a registration has an email that the provider has not verified.
            row = await sql.identities.insert(
                connection, **identity, is_unproved=not self.is_email_verified
            )
            identity_id: UUID = row["id"]
        else:
            found = await sql.identities.use(connection, **identity)
            if found is None:
                raise IdentityUnknown
            identity_id = found
        if self.code_digest is not None and not await sql.exchange.complete_code(
            connection,
            digest=bytes.fromhex(self.code_digest),
            user_id=user_id,
            session_id=str(session_id) if session_id is not None else None,
        ):
            raise ProviderCodeInvalid
        return identity_id

    async def tell_owner(
        self,
        connection: sql.Connection,
        client: Client,
        user: Any,
        identity_id: UUID,
        *,
        throttle: Throttle,
        settings: Settings,
    ) -> None:
        """Log that the identity was linked to ``user``, and queue the notice of it.

        ``user`` is a row. The transaction of ``connection`` must hold the lock on the user's row.
        """
        await write_event(connection, client, EventKind.IDENTITY_LINKED, user_id=user["id"])
        await queue_notice(
            connection,
            client,
            "identity_added",
            user_id=user["id"],
            email=user["email"],
            email_key=user["email_key"],
            throttle=throttle,
            settings=settings,
            data={"identity_id": str(identity_id)},
            values={"provider": self.label},
        )
