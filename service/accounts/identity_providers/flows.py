"""The steps of a sign-in through a provider, and what the service remembers between them.

Each step is a one-time token. ``state`` goes to the provider and comes back in the callback. A
cookie binds it to the browser: a callback that an attacker sends to another person does nothing
(OpenID Connect Core, section 3.1.2.1; RFC 9700, section 4.7). The code after the callback is bound
to the front-end that began, or to the session.
"""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

import sql
from service.accounts import one_time_tokens
from service.accounts.identity_providers.errors import ProviderCodeInvalid, invalid_state
from service.accounts.identity_providers.profile import Profile
from service.accounts.identity_providers.provider import code_challenge
from service.accounts.one_time_tokens import LinkExpired, Purpose
from service.accounts.sessions.opaque_tokens import digest_of, new_token
from service.database.pool import Database
from service.http.errors import NotFound


class Intent(StrEnum):
    """What a flow is for."""

    SIGN_IN = "sign_in"
    LINK = "link"
    """Link the identity to the account of the session that began."""
    REAUTHENTICATE = "reauthenticate"
    """Prove again who the person of the session that began is."""


CODES = {
    Intent.SIGN_IN: Purpose.PROVIDER_CODE,
    Intent.LINK: Purpose.LINK_CODE,
    Intent.REAUTHENTICATE: Purpose.REAUTHENTICATION_CODE,
}
"""The purpose of the code after the callback."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in at a provider that has begun."""

    issuer: str
    """The issuer of the provider. Its name can mean another provider once the settings change."""
    intent: Intent
    redirect_to: str | None
    """The URL of a front-end that gets the result. Only ``SIGN_IN`` can do without."""
    code_challenge: str | None = None
    """The digest of the secret that the front-end has (RFC 7636)."""
    session_id: str | None = None
    """The session that began."""
    nonce: str = ""
    browser: str = ""
    """The digest of the secret in the cookie of the browser."""
    begun_at: float = 0.0
    """Seconds since 1970."""


async def _insert(database: Database, purpose: Purpose, data: Any) -> str:
    token = new_token()
    await sql.flows.insert(
        database,
        digest=token.digest,
        purpose=purpose,
        ttl=purpose.ttl,
        data=orjson.dumps(data).decode(),
    )
    return token.plain


async def prepare(database: Database, flow: Flow) -> str:
    """Return the token of a URL that begins ``flow`` in a browser."""
    return await _insert(database, Purpose.PROVIDER_START, flow)


async def find_prepared(database: Database, issuer: str, token: str) -> Flow:
    """Return the flow of ``prepare``. It can be begun until it expires. Raise ``InvalidInput``."""
    try:
        row = await one_time_tokens.find(database, Purpose.PROVIDER_START, token)
    except (NotFound, LinkExpired):
        raise invalid_state() from None
    return _flow(row, issuer)


async def begin(database: Database, flow: Flow, *, begun_at: float) -> tuple[str, str, str]:
    """Begin ``flow``. Return the state, the nonce, and the secret for the cookie of the browser.

    The secret is also the code verifier of PKCE: the database has only its digest.
    """
    nonce, secret = new_token().plain, new_token().plain
    begun = replace(flow, nonce=nonce, browser=code_challenge(secret), begun_at=begun_at)
    return await _insert(database, Purpose.PROVIDER_STATE, begun), nonce, secret


async def resume(database: Database, issuer: str, state: str, secret: str) -> Flow:
    """Use the state of a callback of ``issuer``, in the browser with ``secret``.

    Raise ``InvalidInput``. The state of another provider is used too: two providers have been mixed
    up.
    """
    row = await sql.flows.consume_state(
        database, digest=digest_of(state), browser=code_challenge(secret)
    )
    if row is None:
        raise invalid_state()
    return _flow(row, issuer)


def _flow(row: Any, issuer: str) -> Flow:
    data: Any = orjson.loads(row["data"])
    flow = Flow(**{**data, "intent": Intent(data["intent"])})
    if flow.issuer != issuer:
        raise invalid_state()
    return flow


async def issue_code(database: Database, flow: Flow, profile: Profile) -> str:
    """Return the code that completes ``flow``. The front-end exchanges it."""
    data = {
        "code_challenge": flow.code_challenge,
        "session_id": flow.session_id,
        "profile": asdict(profile),
    }
    return await _insert(database, CODES[flow.intent], data)


def profile_of(row: Any) -> Profile:
    """Return the profile in the row of a code."""
    profile: Any = orjson.loads(row["data"])["profile"]
    return Profile(**{**profile, "names": tuple(profile["names"])})


async def use_session_code(
    database: Database, intent: Intent, code: str, session_id: str
) -> Profile:
    """Use a code in the session that began. Return the profile.

    Raise ``ProviderCodeInvalid``. A code of another session or for another purpose stays unused.
    """
    row = await sql.flows.consume_session_code(
        database, digest=digest_of(code), purpose=CODES[intent], session_id=session_id
    )
    if row is None:
        raise ProviderCodeInvalid
    return profile_of(row)
