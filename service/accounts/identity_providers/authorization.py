"""Begin a sign-in through a provider: redirect the browser there."""

import re
import time

import voluptuous as vol
from aiohttp import hdrs, web

from service.accounts.identity_providers import browser_cookies, flows
from service.accounts.identity_providers.errors import (
    ProviderResponseInvalid,
    ProviderUnavailable,
)
from service.accounts.identity_providers.flows import Flow, Intent
from service.accounts.identity_providers.provider import AuthorizationRequest, with_query
from service.accounts.identity_providers.providers import PROVIDERS
from service.accounts.one_time_tokens import TOKEN
from service.accounts.throttling.throttle import THROTTLE
from service.database.pool import DATABASE
from service.http.app_keys import SETTINGS
from service.http.client import client_of
from service.http.errors import BLANK, ApiError, InvalidInput, NotFound, TooManyAttempts
from service.http.openapi.schemas import Named, array_of, json_schema, object_of, string
from service.http.parameters import QueryString, filter_text
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.validation import Text
from service.settings.identity_providers import redirect_url
from service.settings.settings import Settings

routes = RouteTableDef(tag="Identity providers")

NOT_ALLOWED = "is not allowed: see REDIRECT_URLS"

PROVIDER = Named(
    "Provider",
    object_of(
        name=string(example="google"),
        label=string(example="Google"),
        url=string(example="https://accounts.example.org/api/auth/oauth/google", form="uri"),
    ),
)
# No provider has the name of this path.
PATH = "/api/auth/oauth/{provider}"
REDIRECT_TO = Text(
    filter_text, longest=2048, example="https://app.example.org/signed-in", form="uri"
)


@json_schema(string(example="E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"))
def code_challenge(value: str) -> str:
    """Return a challenge of the method S256 (RFC 7636, section 4.2). Raise ``vol.Invalid``."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", value):
        raise vol.Invalid("must be the SHA-256 digest of a code verifier in base64url")
    return value


QUERY = QueryString(
    redirect_to=(REDIRECT_TO, None), code_challenge=(code_challenge, None), start=(TOKEN, None)
)


@routes.get(
    "/api/auth/oauth",
    operation_id="ListProviders",
    auth=Auth.NONE,
    responses={200: object_of(providers=array_of(PROVIDER))},
)
async def list_providers(request: web.Request) -> web.StreamResponse:
    """List the identity providers.

    A front-end navigates to ``url`` with the parameters of ``BeginProviderSignIn``.
    """
    base = request.app[SETTINGS].public_url
    providers = [
        {
            "name": provider.name,
            "label": provider.label,
            "url": f"{base}/api/auth/oauth/{provider.name}",
        }
        for provider in request.app[PROVIDERS]
    ]
    return json_response({"providers": providers})


@routes.get(
    PATH,
    operation_id="BeginProviderSignIn",
    auth=Auth.NONE,
    query=QUERY,
    pages=True,
    responses={302: None},
    errors=(
        InvalidInput({"redirect_to": [NOT_ALLOWED]}),
        NotFound("provider"),
        TooManyAttempts("provider", retry_after=60),
        ProviderUnavailable(),
        ProviderResponseInvalid(),
    ),
)
async def begin(request: web.Request) -> web.StreamResponse:
    """Log in through an identity provider.

    Redirect the browser to the provider. ``redirect_to`` is a URL of ``REDIRECT_URLS``. It gets the
    parameter ``code`` for ``ExchangeProviderCode``, or ``error`` with the code of an error.
    ``code_challenge`` is the SHA-256 digest, in base64url, of a secret that the front-end keeps:
    see RFC 7636. Without ``redirect_to``, the callback responds like a login. ``start`` is part of
    an ``authorization_url``.
    """
    provider = request.app[PROVIDERS].get(request.match_info["provider"])
    database, settings, given = request.app[DATABASE], request.app[SETTINGS], QUERY.read(request)
    await request.app[THROTTLE].admit_provider_flow(client_of(request))
    if given["start"] is not None:
        flow = await flows.find_prepared(database, provider.issuer, given["start"])
    else:
        flow = _new_flow(settings, provider.issuer, given["redirect_to"], given["code_challenge"])
    state, nonce, secret = await flows.begin(database, flow, begun_at=time.time())
    try:
        url = await provider.authorization_url(
            AuthorizationRequest(state, nonce, secret, flow.intent is Intent.REAUTHENTICATE)
        )
    except ApiError as error:
        return error_redirect(settings, flow, error)
    response = redirect(url)
    browser_cookies.set_cookie(settings, response, state, secret, request.cookies)
    return response


def _new_flow(
    settings: Settings, issuer: str, redirect_to: str | None, challenge: str | None
) -> Flow:
    """Return the flow of a sign-in. Raise ``InvalidInput``."""
    if redirect_to is not None:
        redirect_to = require_allowed(settings, redirect_to)
    # Otherwise another person who sees the code, such as in a log, could exchange it.
    if (redirect_to is None) != (challenge is None):
        missing = "redirect_to" if redirect_to is None else "code_challenge"
        raise InvalidInput({missing: [BLANK]})
    return Flow(issuer, Intent.SIGN_IN, redirect_to, challenge)


def allowed_url(settings: Settings, redirect_to: str) -> str | None:
    """Return the URL of ``REDIRECT_URLS`` that ``redirect_to`` is, or ``None``.

    Both are compared whole, in the form to which the same parser brings them (RFC 9700, section
    4.1.3).
    """
    try:
        url = redirect_url(redirect_to)
    except ValueError:
        return None
    return url if url in settings.redirect_urls else None


def require_allowed(settings: Settings, redirect_to: str) -> str:
    """Return the allowed URL that ``redirect_to`` is. Raise ``InvalidInput``."""
    url = allowed_url(settings, redirect_to)
    if url is None:
        raise InvalidInput({"redirect_to": [NOT_ALLOWED]})
    return url


def redirect(url: str) -> web.Response:
    """Return a redirect that no cache stores, and that names its origin to no other site."""
    return web.Response(
        status=302,
        headers={
            hdrs.LOCATION: url,
            hdrs.CACHE_CONTROL: "no-store",
            "Referrer-Policy": "no-referrer",
        },
    )


def error_redirect(settings: Settings, flow: Flow, error: ApiError) -> web.Response:
    """Redirect to the front-end with the code of ``error``. Without a front-end, raise it.

    The URL is compared again: the operator may have removed it from the settings.
    """
    url = allowed_url(settings, flow.redirect_to) if flow.redirect_to else None
    if url is None:
        raise error
    return redirect(with_query(url, {"error": error.code}))
