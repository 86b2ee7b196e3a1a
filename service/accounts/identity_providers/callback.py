"""The callback of a provider: verify the person, then hand a code to the front-end.

The callback links nothing and opens no session in a front-end's flow. Both need what only the
front-end, or the session that began, has.
"""

from aiohttp import hdrs, web

from service.accounts.account_lock import AccountLocked
from service.accounts.email_verification import EmailNotVerified
from service.accounts.identity_providers import browser_cookies, flows
from service.accounts.identity_providers.authorization import allowed_url, error_redirect, redirect
from service.accounts.identity_providers.errors import (
    ProofNotFresh,
    ProviderDenied,
    ProviderEmailMissing,
    ProviderResponseInvalid,
    ProviderUnavailable,
    invalid_state,
)
from service.accounts.identity_providers.flows import Flow, Intent
from service.accounts.identity_providers.id_tokens import LEEWAY
from service.accounts.identity_providers.profile import Profile
from service.accounts.identity_providers.provider import Callback, Provider, with_query
from service.accounts.identity_providers.provider_sign_in import sign_in
from service.accounts.identity_providers.providers import PROVIDERS
from service.accounts.one_time_tokens import TOKEN
from service.accounts.responses import LOGIN_RESPONSE
from service.accounts.sessions.sessions import SessionLimitReached
from service.accounts.sign_in import TwoFactorRequired
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.client import Client, client_of
from service.http.errors import ApiError, Conflict, NotFound, TooManyAttempts
from service.http.parameters import QueryString, filter_text
from service.http.routes import Auth, RouteTableDef
from service.http.validation import Text

routes = RouteTableDef(tag="Identity providers")

MAX_CODE = 4096  # Characters of the code of a provider.

QUERY = QueryString(
    state=(TOKEN, None),
    code=(Text(filter_text, longest=MAX_CODE, example="SplxlOBeZQQYbYS6WxSbIA"), None),
    error=(Text(filter_text, longest=MAX_CODE, example="access_denied"), None),
    iss=(Text(filter_text, longest=2048, example="https://accounts.google.com"), None),
)


@routes.get(
    "/api/auth/oauth/{provider}/callback",
    operation_id="CompleteProviderSignIn",
    auth=Auth.NONE,
    query=QUERY,
    pages=True,
    responses={200: LOGIN_RESPONSE, 302: None},
    errors=(
        invalid_state(),
        NotFound("provider"),
        ProviderDenied(),
        ProviderUnavailable(),
        ProviderResponseInvalid(),
        ProviderEmailMissing(),
        ProofNotFresh(),
        TwoFactorRequired(TOKEN.example),
        SessionLimitReached(),
        EmailNotVerified(),
        AccountLocked(),
        Conflict("email"),
        TooManyAttempts("registration", retry_after=60),
    ),
)
async def complete(request: web.Request) -> web.StreamResponse:
    """Get the response of an identity provider.

    The provider redirects the browser to this URL. Redirect to ``redirect_to`` with a ``code`` or
    an ``error``. Without ``redirect_to``, respond like a login. Respond 400 in another browser than
    the one that began.
    """
    provider = request.app[PROVIDERS].get(request.match_info["provider"])
    settings, given = request.app[SETTINGS], QUERY.read(request)
    state = given["state"] or ""
    secret = browser_cookies.read_cookie(settings, request.cookies, state)
    if secret is None:
        raise invalid_state()
    flow = await flows.resume(request.app[DATABASE], provider.issuer, state, secret)
    try:
        if given["code"] is None or given["error"] is not None:
            raise ProviderDenied
        callback = Callback(given["code"], given["iss"], flow.nonce, secret)
        profile = await provider.fetch_profile(callback)
        if flow.intent is Intent.REAUTHENTICATE:
            _require_fresh(profile, flow)
        response = await _respond(request.app, client_of(request), provider, flow, profile)
    except ApiError as error:
        response = error_redirect(settings, flow, error)
    browser_cookies.delete_cookie(settings, response, state)
    return response


def _require_fresh(profile: Profile, flow: Flow) -> None:
    """Check that the provider has verified the person since the flow began.

    A provider may ignore ``prompt`` and ``max_age``, and the person can remove them from the URL:
    only the signed claim counts. Raise ``ProofNotFresh``.
    """
    if profile.auth_time is None or profile.auth_time < flow.begun_at - LEEWAY:
        raise ProofNotFresh


async def _respond(
    app: web.Application, client: Client, provider: Provider, flow: Flow, profile: Profile
) -> web.StreamResponse:
    if flow.redirect_to is None:
        response = await sign_in(app, client, profile, provider.label, None)
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        return response
    url = allowed_url(app[SETTINGS], flow.redirect_to)
    if url is None:
        raise invalid_state()
    code = await flows.issue_code(app[DATABASE], flow, profile)
    return redirect(with_query(url, {"code": code}))
