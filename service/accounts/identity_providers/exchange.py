"""Exchange the code of a completed flow for a session."""

import re
from uuid import UUID

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts.account_lock import AccountLocked
from service.accounts.email_verification import EmailNotVerified
from service.accounts.identity_providers import flows
from service.accounts.identity_providers.errors import ProviderCodeInvalid, ProviderEmailMissing
from service.accounts.identity_providers.provider import code_challenge
from service.accounts.identity_providers.provider_sign_in import sign_in
from service.accounts.identity_providers.providers import PROVIDERS
from service.accounts.one_time_tokens import TOKEN
from service.accounts.responses import LOGIN_RESPONSE
from service.accounts.security_log import EventKind
from service.accounts.sessions.opaque_tokens import digest_of
from service.accounts.sessions.sessions import SessionLimitReached
from service.accounts.sign_in import TwoFactorRequired
from service.accounts.throttling.throttle import THROTTLE
from service.database.pool import DATABASE
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.errors import Conflict, TooManyAttempts
from service.http.routes import Auth, RouteTableDef
from service.http.validation import Text, required

routes = RouteTableDef(tag="Identity providers")


def _verifier(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", value):
        raise vol.Invalid("must have 43 to 128 letters, digits and the characters -._~")
    return value


CODE_VERIFIER = Text(_verifier, longest=128, example="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
"""The secret of a front-end (RFC 7636, section 4.1)."""


@routes.post(
    "/api/auth/oauth/exchange",
    operation_id="ExchangeProviderCode",
    auth=Auth.NONE,
    body=vol.Schema(
        {required("code"): TOKEN, required("code_verifier"): CODE_VERIFIER},
        extra=vol.REMOVE_EXTRA,
    ),
    responses={200: LOGIN_RESPONSE},
    errors=(
        ProviderCodeInvalid(),
        ProviderEmailMissing(),
        TwoFactorRequired(TOKEN.example),
        SessionLimitReached(),
        EmailNotVerified(),
        AccountLocked(),
        Conflict("email"),
        TooManyAttempts("provider", retry_after=60),
        TooManyAttempts("registration", retry_after=60),
    ),
)
async def exchange(request: web.Request) -> web.StreamResponse:
    """Exchange the code of a sign-in through a provider.

    ``code`` is the parameter that ``redirect_to`` got. ``code_verifier`` is the secret whose digest
    was the ``code_challenge``. Respond like a login. An account is registered if there is none with
    this identity or email. Respond 409 if an account has the email and cannot be linked without
    asking: the person logs in to it in another way, and links the identity. Respond 401 to a code
    that is unknown, older than 60 seconds, or was used. A code that is used twice ends the session
    of the first use.
    """
    given = await read_body(request)
    client, app = client_of(request), request.app
    await app[THROTTLE].admit_provider_exchange(client)
    digest, challenge = digest_of(given["code"]), code_challenge(given["code_verifier"])
    row = await sql.exchange.consume_code(app[DATABASE], digest=digest, code_challenge=challenge)
    if row is None:
        await _end_session(app, client, digest, challenge)
        raise ProviderCodeInvalid
    profile = flows.profile_of(row)
    provider = app[PROVIDERS].find(profile.issuer)
    if provider is None:
        raise ProviderCodeInvalid
    return await sign_in(app, client, profile, provider.label, digest)


async def _end_session(app: web.Application, client: Client, digest: bytes, challenge: str) -> None:
    """End the session that a code has opened before, because the code is presented again.

    RFC 6749, section 4.1.2. A use that is not complete fails: see ``IdentityProof.complete``.
    """

    async def note_and_end(connection: sql.Connection) -> None:
        reused = await sql.exchange.note_reuse(connection, digest=digest, code_challenge=challenge)
        if reused is None or reused["session_id"] is None:
            return
        await sql.sessions.end_one(
            connection,
            id=UUID(reused["session_id"]),
            user_id=reused["user_id"],
            kind=EventKind.PROVIDER_CODE_REUSED,
            ip=client.ip,
            user_agent=client.user_agent,
            actor=client.actor,
        )

    await app[DATABASE].transact(note_and_end)
