"""List, link and unlink the identities of the current user, and prove them again.

Linking needs the access token of the very session that began it. So an attacker who begins it, and
gets another person to log in at the provider, gets no code that they can use, and the other person
has no session that can use it.
"""

from collections.abc import Mapping
from typing import Any

import asyncpg
import voluptuous as vol
from aiohttp import web

import sql
from service.accounts.credential_changes import apply_side_effects, lock_owner
from service.accounts.email_verification import EmailNotVerified
from service.accounts.identity_providers import flows
from service.accounts.identity_providers.authorization import REDIRECT_TO, require_allowed
from service.accounts.identity_providers.errors import ProviderCodeInvalid
from service.accounts.identity_providers.flows import Flow, Intent
from service.accounts.identity_providers.linking import Decision, decide
from service.accounts.identity_providers.profile import Profile
from service.accounts.identity_providers.provider import with_query
from service.accounts.identity_providers.provider_sign_in import find_facts
from service.accounts.identity_providers.providers import PROVIDERS, Providers
from service.accounts.one_time_tokens import TOKEN
from service.accounts.security_log import EventKind
from service.accounts.sessions.reauthentication import ReauthenticationRequired
from service.accounts.sign_in_methods import LastSignInMethod, require_sign_in_method
from service.accounts.throttling.throttle import THROTTLE
from service.accounts.user import User
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.bodies import read_body
from service.http.client import Client, client_of
from service.http.errors import Conflict, InvalidInput, NotFound, TooManyAttempts
from service.http.openapi.schemas import (
    TIME,
    Named,
    array_of,
    boolean,
    nullable,
    object_of,
    string,
)
from service.http.parameters import QueryString, flag, path_uuid
from service.http.responses import json_response, timestamp
from service.http.routes import RouteTableDef
from service.http.validation import required

routes = RouteTableDef(tag="Identity providers")

ID = string(example="8f0c4c1e-0c39-4c52-9d1c-3d1f4c7a6b5e", form="uuid")
IDENTITY = Named(
    "Identity",
    object_of(
        id=ID,
        provider=nullable(string(example="google")),
        issuer=string(example="https://accounts.google.com"),
        email=nullable(string(example="jake@jake.jake", form="email")),
        email_verified=boolean(example=True),
        created_at=TIME,
        last_used_at=TIME,
    ),
)
START = vol.Schema({required("redirect_to"): REDIRECT_TO}, extra=vol.REMOVE_EXTRA)
STARTED = object_of(
    authorization_url=string(
        example="https://accounts.example.org/api/auth/oauth/google?start=kF7n0m9u1uY7b0uXKk9o0l1V",
        form="uri",
    )
)
REMOVAL = QueryString(end_other_sessions=(flag, False))


@routes.get(
    "/api/user/identities",
    operation_id="ListIdentities",
    responses={200: object_of(identities=array_of(IDENTITY))},
)
async def list_identities(request: web.Request) -> web.StreamResponse:
    """List the identities of the current user, oldest first.

    ``provider`` is null if the provider is not set up any more: such an identity signs in no
    person.
    """
    rows = await sql.identities.list(request.app[DATABASE], user_id=request["user"].id)
    providers = request.app[PROVIDERS]
    return json_response({"identities": [_identity_json(row, providers) for row in rows]})


@routes.post(
    "/api/user/identities/{provider}",
    operation_id="BeginLinking",
    fresh=True,
    body=START,
    responses={200: STARTED},
    errors=(
        ReauthenticationRequired("password"),
        InvalidInput({"redirect_to": ["is not allowed: see REDIRECT_URLS"]}),
        NotFound("provider"),
        TooManyAttempts("provider", retry_after=60),
    ),
)
async def begin_linking(request: web.Request) -> web.StreamResponse:
    """Begin to link an identity to the current user.

    The front-end navigates to ``authorization_url`` within ten minutes. ``redirect_to`` then gets
    the parameter ``code`` for ``LinkIdentity``, or ``error``.
    """
    given, name = await read_body(request), request.match_info["provider"]
    return await _begin(request.app, client_of(request), request["user"], name, Intent.LINK, given)


@routes.post(
    "/api/auth/reauthenticate/{provider}",
    operation_id="BeginProviderReauthentication",
    setup=True,
    body=START,
    responses={200: STARTED},
    errors=(
        InvalidInput({"redirect_to": ["is not allowed: see REDIRECT_URLS"]}),
        NotFound("provider"),
        TooManyAttempts("provider", retry_after=60),
    ),
)
async def begin_reauthentication(request: web.Request) -> web.StreamResponse:
    """Begin to verify the current user again through an identity provider.

    The provider asks the person to log in, also if they are logged in there. ``Reauthenticate``
    takes the code that ``redirect_to`` gets, as in ``BeginLinking``. Respond 404 for a provider
    that cannot verify a person again: Google and GitHub cannot.
    """
    given, name = await read_body(request), request.match_info["provider"]
    if not request.app[PROVIDERS].get(name).can_reauthenticate:
        raise NotFound("provider")
    return await _begin(
        request.app, client_of(request), request["user"], name, Intent.REAUTHENTICATE, given
    )


async def _begin(
    app: web.Application,
    client: Client,
    user: User,
    name: str,
    intent: Intent,
    given: Mapping[str, str],
) -> web.StreamResponse:
    """Return the URL that begins a flow of this session at the provider ``name``."""
    provider = app[PROVIDERS].get(name)
    redirect_to = require_allowed(app[SETTINGS], given["redirect_to"])
    await app[THROTTLE].admit_provider_flow(client)
    flow = Flow(provider.issuer, intent, redirect_to, session_id=str(user.session_id))
    token = await flows.prepare(app[DATABASE], flow)
    url = f"{app[SETTINGS].public_url}/api/auth/oauth/{provider.name}"
    return json_response({"authorization_url": with_query(url, {"start": token})})


@routes.post(
    "/api/user/identities",
    operation_id="LinkIdentity",
    body=vol.Schema({required("code"): TOKEN}, extra=vol.REMOVE_EXTRA),
    responses={200: object_of(identity=IDENTITY)},
    errors=(
        ProviderCodeInvalid(),
        EmailNotVerified(),
        Conflict("identity"),
        Conflict("provider"),
    ),
)
async def link(request: web.Request) -> web.StreamResponse:
    """Link an identity to the current user.

    ``code`` is the result of ``BeginLinking``. It is valid for 60 seconds, and only in the session
    that began. Respond 200 also if the user has the identity already. Respond 403 while the
    email is not verified. Respond 409 if another account has the identity, or if the user has
    another identity at this provider. Tell the owner by mail.
    """
    code = (await read_body(request))["code"]
    app, client, user = request.app, client_of(request), request["user"]
    profile = await flows.use_session_code(app[DATABASE], Intent.LINK, code, str(user.session_id))
    provider = app[PROVIDERS].find(profile.issuer)
    if provider is None:
        raise ProviderCodeInvalid

    async def insert_unless_linked(connection: sql.Connection) -> Any:
        return await _link(app, connection, client, user, profile, provider.label)

    try:
        row = await app[DATABASE].transact(insert_unless_linked)
    except asyncpg.UniqueViolationError:
        # Another account has linked it at the same time.
        raise Conflict("identity") from None
    return json_response({"identity": _identity_json(row, app[PROVIDERS])})


async def _link(
    app: web.Application,
    connection: sql.Connection,
    client: Client,
    user: User,
    profile: Profile,
    label: str,
) -> Any:
    """Link the identity in ``profile`` to ``user``. Return its row."""
    await lock_owner(connection, user)
    facts, _ = await find_facts(connection, profile, user.id)
    decision = decide(facts)
    if decision is Decision.UNVERIFIED:
        raise EmailNotVerified
    if decision is Decision.IDENTITY_TAKEN:
        raise Conflict("identity")
    if decision is Decision.ISSUER_TAKEN:
        raise Conflict("provider")
    if decision is Decision.KEEP:
        rows = await sql.identities.list(connection, user_id=user.id)
        return next(row for row in rows if row["issuer"] == profile.issuer)
    await sql.identities.forget_unlinked(connection, user_id=user.id, issuer=profile.issuer)
    row = await sql.identities.insert(
        connection,
        user_id=user.id,
        issuer=profile.issuer,
        subject=profile.subject,
        email=profile.email,
        is_email_verified=profile.is_email_verified,
        is_unproved=False,
    )
    await apply_side_effects(
        app,
        connection,
        client,
        user,
        EventKind.IDENTITY_LINKED,
        "identity_added",
        end_others=False,
        data={"identity_id": str(row["id"])},
        values={"provider": label},
    )
    return row


@routes.delete(
    "/api/user/identities/{id}",
    operation_id="UnlinkIdentity",
    fresh=True,
    query=REMOVAL,
    parameters={"id": ID},
    responses={204: None},
    errors=(
        ReauthenticationRequired("password"),
        NotFound("identity"),
        LastSignInMethod("identity"),
    ),
)
async def unlink(request: web.Request) -> web.StreamResponse:
    """Unlink an identity of the current user.

    The email of the account and its verification stay. Respond 404 for any other id, and 409 if the
    user could no longer log in. Tell the owner by mail. The other sessions that were proved with an
    identity need another proof before they change credentials. With ``end_other_sessions``, revoke
    all other sessions.
    """
    identity_id = path_uuid(request, "id", "identity")
    ends_sessions = REMOVAL.read(request)["end_other_sessions"]
    user: User = request["user"]
    client, app = client_of(request), request.app

    async def delete_unless_last(connection: sql.Connection) -> None:
        await lock_owner(connection, user)
        issuer = await sql.identities.delete(connection, id=identity_id, user_id=user.id)
        if issuer is None:
            raise NotFound("identity")
        await require_sign_in_method(connection, user.id, "identity", app[PROVIDERS].issuers)
        await sql.identities.end_proofs(
            connection, user_id=user.id, except_session_id=user.session_id
        )
        await apply_side_effects(
            app,
            connection,
            client,
            user,
            EventKind.IDENTITY_UNLINKED,
            "identity_removed",
            end_others=ends_sessions,
            values={"provider": app[PROVIDERS].label_of(issuer)},
        )

    await app[DATABASE].transact(delete_unless_last)
    return web.Response(status=204)


def _identity_json(row: Any, providers: Providers) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "provider": providers.names.get(row["issuer"]),
        "issuer": row["issuer"],
        "email": row["email"],
        "email_verified": row["is_email_verified"],
        "created_at": timestamp(row["created_at"]),
        "last_used_at": timestamp(row["last_used_at"]),
    }
