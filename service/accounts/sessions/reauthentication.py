"""Fresh proof: sensitive routes require that the person proved lately who they are.

A session remembers when and how its person last proved who they are (``auth_time`` and ``amr``, as
in OpenID Connect). OWASP Authentication Cheat Sheet, "Require Re-authentication for Sensitive
Features": a stolen access token alone must not change the credentials of an account.

A reauthentication replaces the session, so that the thief of an older token does not profit from
the new proof (OWASP Session Management Cheat Sheet, "Renew the Session ID After Any Privilege Level
Change").
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import voluptuous as vol
from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.identity_providers.errors import IdentityUnknown, ProviderCodeInvalid
from service.accounts.identity_providers.flows import Intent, use_session_code
from service.accounts.identity_providers.providers import PROVIDERS, Providers
from service.accounts.one_time_tokens import TOKEN
from service.accounts.passkeys.credentials import ASSERTED_CREDENTIAL
from service.accounts.passkeys.passkey_verification import (
    PASSKEY_VERIFIER,
    ChallengeInvalid,
    CounterWentBack,
    PasskeyInvalid,
    PasskeyUnknown,
)
from service.accounts.passwords.verification import (
    CREDENTIAL_VERIFIER,
    wrong_code,
    wrong_credentials,
)
from service.accounts.sessions.authentication import TOKENS, revoked_token
from service.accounts.sessions.authentication_methods import (
    FEDERATED,
    PASSKEY,
    PASSWORD,
    PASSWORD_AND_CODE,
    Method,
)
from service.accounts.sessions.opaque_tokens import new_token
from service.accounts.sessions.refresh import REFRESHED, tokens_response
from service.accounts.sessions.sessions import require_active_session
from service.accounts.two_factor.codes import ANY_CODE
from service.accounts.two_factor.second_factor import SECOND_FACTOR, two_factor_unavailable
from service.accounts.user import User
from service.database.pool import DATABASE, Database
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.error_codes import ErrorCode
from service.http.errors import BLANK, ApiError, InvalidInput, TooManyAttempts
from service.http.routes import RouteTableDef
from service.settings.settings import Settings

routes = RouteTableDef(tag="Sessions")

Confirm: TypeAlias = Callable[[sql.Connection], Awaitable[object]]
"""The last check of a proof, in the transaction that relies on it. It locks the user's row."""


class ReauthenticationRequired(ApiError):
    """403: the session has no fresh proof. ``methods`` names what the account can prove it with."""

    def __init__(self, *methods: str) -> None:
        super().__init__(
            ErrorCode.REAUTHENTICATION_REQUIRED,
            {"session": ["requires reauthentication"]},
            details={"methods": list(methods)},
        )


class FreshProof:
    """Check that the person of a session proved lately who they are."""

    def __init__(self, database: Database, settings: Settings, providers: Providers) -> None:
        self._database = database
        self._settings = settings
        self._providers = providers

    async def require(self, user: User) -> None:
        """Raise ``ReauthenticationRequired`` unless the session of ``user`` has a fresh proof.

        With a second factor, the proof must have two factors. Where every account needs one, it
        must also have two factors if the account has a passkey: the password alone must not set up
        another factor beside it. The check needs no query, except there. Only the error asks the
        database for the methods of the account. The time of the proof is from the clock of the
        database. A difference between the clocks changes the lifetime of the proof by the same
        amount.
        """
        is_recent = time.time() - user.auth_time <= self._settings.reauthentication_ttl
        has_two_factors = Method.MULTIPLE in user.amr
        is_one_enough = not user.two_factor and not self._settings.require_two_factor
        if is_recent and (has_two_factors or is_one_enough):
            return
        row = await sql.reauthentication.find_methods(
            self._database, user_id=user.id, issuers=self._providers.reauthentication_issuers
        )
        if row is None:
            raise revoked_token()
        needs_passkey = not user.two_factor and not is_one_enough and row["has_passkey"]
        if is_recent and not user.two_factor and not needs_passkey:
            return
        methods = ["password"] if row["has_password"] and not needs_passkey else []
        if user.two_factor:
            methods.append("code")
        if row["has_passkey"]:
            methods.append("passkey")
        if row["has_identity"] and not needs_passkey:
            methods.append("provider")
        raise ReauthenticationRequired(*methods)


REAUTHENTICATION = vol.Schema(
    {
        "password": fields.given_password,
        "code": ANY_CODE,
        "credential": ASSERTED_CREDENTIAL,
        "provider_code": TOKEN,
    },
    extra=vol.REMOVE_EXTRA,
)


@routes.post(
    "/api/auth/reauthenticate",
    operation_id="Reauthenticate",
    setup=True,
    body=REAUTHENTICATION,
    responses={200: REFRESHED},
    errors=(
        InvalidInput({"password": [BLANK]}),
        InvalidInput({"code": [BLANK]}),
        wrong_credentials(),
        wrong_code(),
        ChallengeInvalid(),
        PasskeyUnknown(),
        PasskeyInvalid(),
        ProviderCodeInvalid(),
        IdentityUnknown(),
        TooManyAttempts("credentials", retry_after=60),
        TooManyAttempts("passkey", retry_after=60),
        two_factor_unavailable(),
    ),
)
async def reauthenticate(request: web.Request) -> web.StreamResponse:
    """Verify the current user again.

    The response has a new access token and a new refresh token. The older tokens of this session
    are revoked. The request has ``password``; or ``credential``, the response of a passkey to the
    options of a login; or ``provider_code``, the result of ``BeginProviderReauthentication``.
    ``code`` is the code of the second factor. Beside the password and the provider's code it is
    required where that is on. Respond 401 to a wrong password, code or passkey and 429 after too
    many of them, as a login does.
    """
    given = await read_body(request)
    client, user, app = client_of(request), request["user"], request.app
    if "credential" in given:
        confirm = await _verify_passkey(app, client, user, given["credential"])
        methods: tuple[Method, ...] = PASSKEY
    else:
        first = "provider_code" if "provider_code" in given else "password"
        missing = {first, "code"} if user.two_factor else {first}
        if missing := missing - given.keys():
            raise InvalidInput({name: [BLANK] for name in sorted(missing)})
        verify = _verify_provider if first == "provider_code" else _verify_password
        confirm, methods = await verify(app, client, user, given)
    token = new_token()

    async def replace_session(connection: sql.Connection) -> Any:
        await confirm(connection)
        await require_active_session(connection, user)
        return await sql.reauthentication.replace_session(
            connection,
            id=user.session_id,
            user_id=user.id,
            amr=list(methods),
            digest=token.digest,
            refresh_token_ttl=app[SETTINGS].refresh_token_ttl,
            ip=client.ip,
            user_agent=client.user_agent,
        )

    try:
        session = await app[DATABASE].transact(replace_session)
    except CounterWentBack as error:
        await app[PASSKEY_VERIFIER].reject_counter(client, error, session_id=user.session_id)
    if session is None:
        raise revoked_token()
    access = app[TOKENS].issue(
        user.id, session["id"], session["expires_at"].timestamp(), user.roles
    )
    return tokens_response(access, token.plain)


async def _verify_password(
    app: web.Application, client: Client, user: User, given: Mapping[str, Any]
) -> tuple[Confirm, tuple[Method, ...]]:
    """Verify the password in ``given``, and the code where the second factor is on.

    Return a function that locks the user's row and checks that the password is still the current
    one, and the methods of the proof. Raise the errors of a login.
    """
    row = await app[CREDENTIAL_VERIFIER].verify_credentials(
        client, user.id, given["password"], user.session_id
    )
    methods: tuple[Method, ...] = PASSWORD
    if row["two_factor_since"] is not None:
        await app[SECOND_FACTOR].verify_code(
            client, user.id, given.get("code", ""), user.session_id
        )
        methods = PASSWORD_AND_CODE

    async def confirm(connection: sql.Connection) -> None:
        # A password change has ended this session, or this session has changed the password.
        if await sql.sessions.lock_user(connection, user_id=user.id) != row["password_version"]:
            raise wrong_credentials()

    return confirm, methods


async def _verify_provider(
    app: web.Application, client: Client, user: User, given: Mapping[str, Any]
) -> tuple[Confirm, tuple[Method, ...]]:
    """Verify the result of a provider in ``given``, and the code where the second factor is on.

    Return a function that locks the user's row and checks that the identity is still theirs, and
    the methods of the proof. Raise ``ProviderCodeInvalid`` and the errors of a code.
    """
    methods: tuple[Method, ...] = FEDERATED
    profile = await use_session_code(
        app[DATABASE], Intent.REAUTHENTICATE, given["provider_code"], str(user.session_id)
    )
    if profile.issuer not in app[PROVIDERS].reauthentication_issuers:
        raise ProviderCodeInvalid
    if user.two_factor:
        await app[SECOND_FACTOR].verify_code(client, user.id, given["code"], user.session_id)
        methods = (*FEDERATED, Method.ONE_TIME_CODE, Method.MULTIPLE)

    async def confirm(connection: sql.Connection) -> None:
        await sql.sessions.lock_user(connection, user_id=user.id)
        if not await sql.identities.use(
            connection,
            user_id=user.id,
            issuer=profile.issuer,
            subject=profile.subject,
            email=profile.email,
            is_email_verified=profile.is_email_verified,
        ):
            raise IdentityUnknown

    return confirm, methods


async def _verify_passkey(
    app: web.Application, client: Client, user: User, credential: Mapping[str, Any]
) -> Confirm:
    """Verify the response of a passkey of ``user``.

    Return a function that locks the user's row and uses the passkey. Raise the errors of a login.
    """
    verifier = app[PASSKEY_VERIFIER]
    passkey = await verifier.verify(client, credential, user_id=user.id, session_id=user.session_id)
    return partial(verifier.use, passkey=passkey)
