"""Create the application: its middlewares, its routes and its background tasks."""

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from service.accounts import (
    current_user,
    email_change,
    email_verification,
    link_pages,
    login_unlock,
    reports,
    security_log,
    users,
)
from service.accounts.administration import events, session_routes, user_routes
from service.accounts.administration.api_keys import ApiKeys
from service.accounts.cleanup import clean_up_periodically
from service.accounts.closed_accounts import CLOSED_ACCOUNTS, ClosedAccounts
from service.accounts.encryption import ENCRYPTION, Encryption
from service.accounts.identity_providers import (
    authorization,
    callback,
    exchange,
    identities,
)
from service.accounts.identity_providers.provider_http import ProviderHttp
from service.accounts.identity_providers.providers import PROVIDER_HTTP, PROVIDERS, create_providers
from service.accounts.passkeys import passkey_login, passkey_registration, passkeys
from service.accounts.passkeys.passkey_verification import PASSKEY_VERIFIER, PasskeyVerifier
from service.accounts.passkeys.relying_party import RELYING_PARTY, RelyingParty
from service.accounts.passwords import reset
from service.accounts.passwords.hasher import PASSWORDS, PasswordHasher, usable_cores
from service.accounts.passwords.policy import PASSWORD_POLICY, create_policy
from service.accounts.passwords.verification import CREDENTIAL_VERIFIER, CredentialVerifier
from service.accounts.sessions import introspection, jwks, reauthentication, refresh, sessions
from service.accounts.sessions.asymmetric_tokens import create_tokens
from service.accounts.sessions.authentication import (
    AUTHENTICATOR,
    SESSION_CACHE,
    TOKENS,
    Authenticator,
)
from service.accounts.sessions.cache import SessionCache
from service.accounts.sessions.cache_invalidation import cache_invalidation_middleware
from service.accounts.sessions.reauthentication import FreshProof
from service.accounts.sessions.signing_keys import (
    KEYS_CHANGED,
    SIGNING_KEYS,
    KeyRing,
    SigningKeys,
)
from service.accounts.sign_in import SIGN_IN, SignIn
from service.accounts.throttling.login_attempts import LOGIN_ATTEMPTS, LoginAttempts
from service.accounts.throttling.throttle import THROTTLE, Throttle
from service.accounts.two_factor import enrolment
from service.accounts.two_factor import login as two_factor_login
from service.accounts.two_factor.requirement import require_two_factor
from service.accounts.two_factor.second_factor import SECOND_FACTOR, SecondFactor
from service.conduit import (
    articles,
    comments,
    export,
    favorites,
    listing,
    profiles,
    tags,
    user_export,
)
from service.database.change_listener import CHANGE_LISTENER, ChangeListener
from service.database.circuit_breaker import DatabaseUnavailable
from service.database.pool import DATABASE, Database
from service.http import security_headers
from service.http.app_keys import (
    AUTHENTICATE,
    AUTHENTICATE_KEY,
    DOCUMENT,
    REQUIRE_FRESH_PROOF,
    SETTINGS,
)
from service.http.auth import auth_middleware
from service.http.connections import client_is_gone
from service.http.cors import cors_middleware
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, Render, Unavailable, error_middleware, render
from service.http.languages import LANGUAGES
from service.http.openapi.document import render_document
from service.http.request_log import REQUEST_LOG, RequestLog, request_log_middleware
from service.http.unsupported import reject_unsupported
from service.mail.message import Mailer
from service.mail.outbox import OUTBOX, Outbox
from service.mail.smtp import create_mailer
from service.mail.templates import load_templates
from service.operations import docs, health, home, openapi, seen_client, static_files
from service.settings.settings import Settings
from service.telemetry.error_reports import error_reports
from service.telemetry.tracing import Tracing

# The handlers of this service read ``request["user"]``: its key is a plain string on purpose.
warnings.filterwarnings("ignore", category=web.NotAppKeyWarning)

ROUTES = (
    health.routes,
    seen_client.routes,
    users.routes,
    two_factor_login.routes,
    current_user.routes,
    email_verification.routes,
    email_change.routes,
    reset.routes,
    login_unlock.routes,
    reports.routes,
    passkeys.routes,
    passkey_registration.routes,
    passkey_login.routes,
    authorization.routes,
    callback.routes,
    exchange.routes,
    identities.routes,
    refresh.routes,
    reauthentication.routes,
    sessions.routes,
    jwks.routes,
    introspection.routes,
    security_log.routes,
    user_routes.routes,
    session_routes.routes,
    events.routes,
    enrolment.routes,
    export.routes,
    user_export.routes,
    profiles.routes,
    # The feed's path must come before /api/articles/{slug}, which would match it.
    listing.routes,
    articles.routes,
    favorites.routes,
    comments.routes,
    tags.routes,
    openapi.routes,
    docs.routes,
    home.routes,
    static_files.routes,
)

EXPECTED_ERRORS: Mapping[type[Exception], ApiError] = {
    DatabaseUnavailable: Unavailable(
        "database", "is not available", code=ErrorCode.DATABASE_UNAVAILABLE, retry_after=2
    ),
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts that ``service/metrics/measured_parts.py`` replaces by parts that count."""

    session_cache: Callable[[int], SessionCache] = SessionCache
    authenticator: Callable[..., Authenticator] = Authenticator
    sign_in: Callable[..., SignIn] = SignIn
    password_hasher: Callable[..., PasswordHasher] = PasswordHasher
    mailer: Callable[[Settings], Mailer] = create_mailer
    render: Render = render


def create_app(
    settings: Settings,
    database_url: str,
    request_log: RequestLog | None = None,
    parts: Parts | None = None,
) -> web.Application:
    """Return the service as an aiohttp application.

    ``database_url`` is the URL of a migrated database: ``settings.database_url`` or the embedded
    server's. ``request_log`` receives a line for each request (default: standard output). ``parts``
    are the parts that may count. Raise ``ValueError`` if ``settings`` has no ``jwt_secret``, and
    ``ExtraMissing`` if they need a package that is not installed.
    """
    parts = parts or Parts()
    if settings.jwt_secret is None:
        raise ValueError("jwt_secret is missing: call with_generated_secrets")
    log = request_log or RequestLog()
    database = Database(
        database_url,
        settings.database_pool_size,
        client_is_gone,
        pooled=settings.database_listen_url is not None,
        prepared_statements=settings.database_prepared_statements,
    )
    encryption = Encryption(settings.encryption_keys)
    session_cache = parts.session_cache(settings.user_cache_size)
    key_ring = KeyRing()
    tokens = create_tokens(settings, settings.jwt_secret, key_ring)
    signing_keys = SigningKeys(database, encryption, key_ring, session_cache.claims.clear, settings)

    def invalidate(payload: str) -> None:
        if payload == KEYS_CHANGED:
            signing_keys.wake()
        else:
            session_cache.invalidate(payload)

    def clear() -> None:
        session_cache.clear()
        signing_keys.wake()

    change_listener = ChangeListener(
        database,
        settings.database_listen_url or database_url,
        "accounts",
        settings.user_cache_staleness,
        invalidate,
        clear,
    )
    authenticator = parts.authenticator(
        database, tokens, session_cache, change_listener, signing_keys.learn
    )

    tracing = Tracing(settings) if settings.otel_exporter_otlp_endpoint else None
    app = web.Application(
        middlewares=[
            request_log_middleware(log),
            *([tracing.middleware] if tracing else []),
            link_pages.error_page_middleware,
            reject_unsupported,
            *([cors_middleware(settings.cors_origins)] if settings.cors_origins else []),
            error_middleware(
                EXPECTED_ERRORS, strict=settings.realworld_strict, render=parts.render
            ),
            auth_middleware(
                authenticator.authenticate,
                require_two_factor if settings.require_two_factor else None,
            ),
            cache_invalidation_middleware(change_listener),
        ],
        client_max_size=settings.max_body_size,
    )
    app.on_response_prepare.append(security_headers.on_response_prepare)
    app[SETTINGS] = settings
    app[PARTS] = parts
    app[REQUEST_LOG] = log
    app[DATABASE] = database
    app[AUTHENTICATOR] = authenticator
    app[AUTHENTICATE] = authenticator.authenticate
    app[PROVIDER_HTTP] = provider_http = ProviderHttp()
    app[PROVIDERS] = providers = create_providers(settings, provider_http)
    app[REQUIRE_FRESH_PROOF] = FreshProof(database, settings, providers).require
    app[health.PING_DATABASE] = database.ping
    app[TOKENS] = tokens
    app[SESSION_CACHE] = session_cache
    app[CHANGE_LISTENER] = change_listener
    app[THROTTLE] = throttle = Throttle(database, settings)
    app[AUTHENTICATE_KEY] = ApiKeys(database, throttle).authenticate
    app[LOGIN_ATTEMPTS] = LoginAttempts(database, settings)
    app[PASSWORD_POLICY] = create_policy(settings)
    app[ENCRYPTION] = encryption
    app[SIGNING_KEYS] = signing_keys
    app[RELYING_PARTY] = party = RelyingParty(settings)
    app[PASSKEY_VERIFIER] = PasskeyVerifier(database, party, throttle)
    app[SIGN_IN] = parts.sign_in(database, tokens, throttle, settings)
    app[CLOSED_ACCOUNTS] = ClosedAccounts(database)
    app[tags.TAG_LIST] = tags.TagList(database)
    templates = load_templates(settings)
    app[LANGUAGES] = templates.languages
    app[OUTBOX] = Outbox(database, parts.mailer(settings), templates)
    # The first to start and the last to stop: the others may report errors and run queries.
    if settings.sentry_dsn:
        app.cleanup_ctx.append(error_reports(settings.sentry_dsn))
    if tracing:
        app.cleanup_ctx.append(tracing.run)
    app.cleanup_ctx.append(_provider_http)
    app.cleanup_ctx.append(_database)
    app.cleanup_ctx.append(_signing_keys)
    app.cleanup_ctx.append(_change_listener)
    app.cleanup_ctx.append(_passwords)
    app.cleanup_ctx.append(_cleanup)
    app.cleanup_ctx.append(_closed_accounts)
    app.cleanup_ctx.append(_outbox)
    for routes in ROUTES:
        app.add_routes(routes)
    app[DOCUMENT] = render_document(app)
    # Read now: a missing or wrong file must fail the start, not a request.
    docs.contents()
    home.template()
    static_files.contents()
    return app


PARTS = web.AppKey("parts", Parts)


async def _database(app: web.Application) -> AsyncIterator[None]:
    await app[DATABASE].open()
    yield
    await app[DATABASE].close()


async def _provider_http(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[PROVIDER_HTTP].close()


async def _signing_keys(app: web.Application) -> AsyncIterator[None]:
    await app[SIGNING_KEYS].start()
    yield
    await app[SIGNING_KEYS].stop()


async def _change_listener(app: web.Application) -> AsyncIterator[None]:
    if app[SETTINGS].user_cache_size:
        app[CHANGE_LISTENER].start()
    yield
    await app[CHANGE_LISTENER].stop()


async def _passwords(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    # The processes of one machine share its cores, and each hash occupies one core.
    threads = max(1, usable_cores() // settings.web_concurrency)
    passwords = app[PARTS].password_hasher(
        settings.bcrypt_cost,
        threads,
        settings.password_queue_size,
        settings.password_algorithm,
    )
    app[PASSWORDS] = passwords
    app[CREDENTIAL_VERIFIER] = CredentialVerifier(
        app[DATABASE], passwords, app[LOGIN_ATTEMPTS], app[THROTTLE], settings
    )
    app[SECOND_FACTOR] = SecondFactor(
        app[DATABASE], app[CREDENTIAL_VERIFIER], app[ENCRYPTION], app[THROTTLE], settings
    )
    yield
    passwords.close()


async def _cleanup(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(clean_up_periodically(app[DATABASE], app[SETTINGS]))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _closed_accounts(app: web.Application) -> AsyncIterator[None]:
    app[CLOSED_ACCOUNTS].start()
    yield
    await app[CLOSED_ACCOUNTS].stop()


async def _outbox(app: web.Application) -> AsyncIterator[None]:
    app[OUTBOX].start()
    yield
    await app[OUTBOX].stop()
