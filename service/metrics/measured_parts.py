"""The parts of the application that count, in place of those that do not.

Without ``METRICS_PORT`` this module is not imported, and the application has the parts that do not
count: then metrics cost nothing.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, TextIO, TypeVar
from uuid import UUID

from aiohttp import web

import sql
from service.accounts.identity_providers.identity_proof import IdentityProof
from service.accounts.passwords.hash_queue import Requester
from service.accounts.passwords.hasher import PasswordHasher
from service.accounts.sessions.access_tokens import Claims
from service.accounts.sessions.authentication import Authenticator
from service.accounts.sessions.authentication_methods import PASSWORD, Method
from service.accounts.sessions.cache import PendingLoad, SessionCache
from service.accounts.sessions.sessions import NewSession
from service.accounts.sign_in import SignIn
from service.accounts.user import User
from service.app import Parts
from service.http import errors
from service.http.client import Client
from service.http.error_codes import ErrorCode
from service.http.request_log import RequestLog
from service.mail.message import (
    Mailer,
    MailServerUnavailable,
    Message,
    PermanentMailError,
    TemporaryMailError,
)
from service.mail.smtp import create_mailer
from service.metrics import families
from service.metrics.shared_values import WorkerValues
from service.settings.settings import Settings

_Result = TypeVar("_Result")


class MeasuredRequestLog(RequestLog):
    """Count the requests of the lines in each batch."""

    def __init__(self, values: WorkerValues, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._values = values

    def flush(self) -> None:
        """Count and write the queued lines."""
        self._values.observe_requests(self._lines)
        super().flush()


class MeasuredSessionCache(SessionCache):
    """Count evictions, invalidations and stale reads."""

    def __init__(self, size: int, *, values: WorkerValues) -> None:
        super().__init__(size)
        self._evictions = values.counter(families.CACHE_EVICTIONS)
        self._invalidations = values.counter(families.CACHE_INVALIDATIONS)
        self._stale_reads = values.counter(families.STALE_READS)

    def put_user(self, user: User) -> None:
        """Cache the user of a session. Count the user who is evicted for it."""
        if user.session_id not in self.users and len(self.users) >= self._size:
            self._evictions.increment()
        super().put_user(user)

    def invalidate(self, payload: str) -> None:
        """Drop what a notification names, and count it."""
        self._invalidations.increment()
        super().invalidate(payload)

    @contextmanager
    def loading(self, user_id: UUID, session_id: UUID) -> Iterator[PendingLoad]:
        """Track a database read. Count it if its result is stale."""
        with super().loading(user_id, session_id) as load:
            yield load
        if load.stale:
            self._stale_reads.increment()


class MeasuredAuthenticator(Authenticator):
    """Count the queries for users. A request whose user is in the cache costs nothing here."""

    def __init__(self, *parts: Any, values: WorkerValues) -> None:
        super().__init__(*parts)
        self._absent, self._disabled = (
            values.counter(families.CACHE_MISSES, reason) for reason in families.CACHE_MISSES.values
        )

    async def _load(self, claims: Claims) -> User:
        is_trusted = self._change_listener.is_trusted()
        (self._absent if is_trusted else self._disabled).increment()
        return await super()._load(claims)


class MeasuredSignIn(SignIn):
    """Count logins and registrations."""

    def __init__(self, *parts: Any, values: WorkerValues) -> None:
        super().__init__(*parts)
        self._sign_ins = {
            name: values.counter(families.SIGN_INS, name) for name in families.SIGN_INS.values
        }
        self._registrations = {
            name: values.counter(families.REGISTRATIONS, name)
            for name in families.REGISTRATIONS.values
        }

    async def finish(
        self,
        client: Client,
        user: Any,
        methods: Collection[Method],
        confirm: Callable[[sql.Connection], Awaitable[Any]] | None = None,
        proof: IdentityProof | None = None,
        session: NewSession | None = None,
    ) -> web.StreamResponse:
        """End a login, and count it if it opened a session."""
        response = await super().finish(client, user, methods, confirm, proof, session)
        self._sign_ins[method_name(methods)].increment()
        return response

    async def finish_registration(
        self,
        client: Client,
        insert_user: Callable[[sql.Connection], Awaitable[Any]],
        methods: Collection[Method] = PASSWORD,
        proof: IdentityProof | None = None,
    ) -> web.StreamResponse:
        """End a registration, and count it."""
        response = await super().finish_registration(client, insert_user, methods, proof)
        self._registrations["provider" if Method.FEDERATED in methods else "password"].increment()
        return response


class MeasuredPasswordHasher(PasswordHasher):
    """Measure how long passwords wait for a thread."""

    def __init__(self, *parts: Any, values: WorkerValues) -> None:
        super().__init__(*parts)
        self._login_wait = values.histogram(families.HASH_WAIT, "login")
        self._other_wait = values.histogram(families.HASH_WAIT, "other")

    async def _run(
        self, work: Callable[[], _Result], requester: Requester, *, is_login: bool
    ) -> _Result:
        queued = time.perf_counter()
        waited: float | None = None

        def work_after_wait() -> _Result:
            nonlocal waited
            waited = time.perf_counter() - queued
            return work()

        try:
            return await super()._run(work_after_wait, requester, is_login=is_login)
        finally:
            if waited is not None:
                (self._login_wait if is_login else self._other_wait).observe(waited)


class MeasuredMailer:
    """Count the results of ``mailer``."""

    def __init__(self, mailer: Mailer, values: WorkerValues) -> None:
        self._mailer = mailer
        self._sent, self._delayed, self._refused, self._unreachable = (
            values.counter(families.MAILS, result) for result in families.MAILS.values
        )

    async def send(
        self, message: Message, recipient: str, *, mail_id: UUID, written_at: datetime
    ) -> None:
        """Send ``message``. Raise the errors of the mailer."""
        try:
            await self._mailer.send(message, recipient, mail_id=mail_id, written_at=written_at)
        except PermanentMailError:
            self._refused.increment()
            raise
        except MailServerUnavailable:
            self._unreachable.increment()
            raise
        except TemporaryMailError:
            self._delayed.increment()
            raise
        self._sent.increment()


def method_name(methods: Collection[Method]) -> str:
    """Return the value of the label ``method`` for the proofs of a login."""
    if Method.PASSKEY in methods:
        return "passkey"
    first = "provider" if Method.FEDERATED in methods else "password"
    return f"{first}_and_code" if Method.ONE_TIME_CODE in methods else first


def measured_parts(values: WorkerValues) -> Parts:
    """Return the parts that count in ``values``."""
    counters = {code: values.counter(families.ERRORS, code) for code in ErrorCode}

    def render(error: errors.ApiError, *, strict: bool) -> web.StreamResponse:
        counters[error.code].increment()
        return errors.render(error, strict=strict)

    def mailer(settings: Settings) -> Mailer:
        return MeasuredMailer(create_mailer(settings), values)

    return Parts(
        session_cache=partial(MeasuredSessionCache, values=values),
        authenticator=partial(MeasuredAuthenticator, values=values),
        sign_in=partial(MeasuredSignIn, values=values),
        password_hasher=partial(MeasuredPasswordHasher, values=values),
        mailer=mailer,
        render=render,
    )
