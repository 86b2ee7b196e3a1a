"""Authentication: from an access token to ``request["user"]``."""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

import sql
from service.accounts.security_log import EventKind
from service.accounts.sessions.access_tokens import AccessTokens, Claims
from service.accounts.sessions.asymmetric_tokens import UnknownKey
from service.accounts.sessions.cache import SessionCache
from service.accounts.user import User
from service.database.change_listener import ChangeListener, clock
from service.database.pool import Database
from service.http.error_codes import ErrorCode
from service.http.errors import Unauthorized


class Authenticator:
    """Find the user of a token: in the cache while it is trusted, otherwise in the database."""

    def __init__(
        self,
        database: Database,
        tokens: AccessTokens,
        cache: SessionCache,
        change_listener: ChangeListener,
        learn_keys: Callable[[], Awaitable[None]],
    ) -> None:
        """``learn_keys`` reads the keys of tokens whose key is unknown to this process."""
        self._database = database
        self._tokens = tokens
        self._cache = cache
        self._change_listener = change_listener
        self._learn_keys = learn_keys

    async def authenticate(self, token: str) -> User:
        """Return the user of ``token``.

        Raise ``Unauthorized`` when the token is invalid or expired, its session has ended, or the
        account is gone.
        """
        cache, now = self._cache, time.time()
        claims = cache.claims.get(token)
        if claims is None or claims.expires_at <= now:
            claims = await self._verify(token)
            cache.put_claims(token, claims)
        if clock() < self._change_listener.trusted_until:
            user = cache.users.get(claims.session_id)
            if (
                user is not None
                and user.id == claims.user_id
                # No token outlives its session as it was when the token was issued. One that
                # outlives the session in the cache was issued after a refresh since.
                and user.session_expires_at >= claims.expires_at
            ):
                return user
        return await self._load(claims)

    async def authenticate_now(self, token: str) -> tuple[Claims, User]:
        """Return the claims and the user of ``token`` from the database, and never from the cache.

        Raise ``Unauthorized`` as ``authenticate`` does.
        """
        claims = await self._verify(token)
        return claims, await self._load(claims)

    async def _verify(self, token: str) -> Claims:
        try:
            return self._tokens.verify(token)
        except UnknownKey:
            await self._learn_keys()
            return self._tokens.verify(token)

    async def _load(self, claims: Claims) -> User:
        trusted = self._change_listener.is_trusted()
        with self._cache.loading(claims.user_id, claims.session_id) as load:
            row = await sql.sessions.find_with_user(
                self._database, id=claims.session_id, user_id=claims.user_id
            )
        if row is None or row["expired"] or row["end_reason"] is not None:
            raise revoked_token(row["end_reason"] if row is not None else None)
        user = User.of(row)
        if trusted and not load.stale:
            self._cache.put_user(user)
        return user


def revoked_token(end_reason: str | None = None) -> Unauthorized:
    """Return the error for a token whose session has ended; its code tells an evicted device."""
    code = ErrorCode.SESSION_EVICTED if end_reason == EventKind.EVICTED else ErrorCode.TOKEN_REVOKED
    return Unauthorized("token", "has been revoked", code=code)


AUTHENTICATOR = web.AppKey("authenticator", Authenticator)
TOKENS = web.AppKey("tokens", AccessTokens)
SESSION_CACHE = web.AppKey("session_cache", SessionCache)
