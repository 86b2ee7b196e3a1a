"""Password hashing: bcrypt or argon2id in a bounded pool of threads with low priority.

Both release the interpreter lock, so the threads use every core. Their low priority keeps the
event loop responsive during a burst of logins.
"""

import base64
import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import bcrypt
from aiohttp import web

from service.accounts.passwords.hash_queue import HashQueue, QueueFull, Requester
from service.accounts.passwords.rejection_costs import RejectionCosts
from service.accounts.passwords.schemes import (
    ARGON2ID,
    ARGON2ID_KIND,
    MAX_BCRYPT_BYTES,
    parse,
)
from service.http.error_codes import ErrorCode
from service.http.errors import Unavailable

NICENESS = 10

_Result = TypeVar("_Result")


class PasswordHasher:
    """Hash and verify passwords on ``threads`` threads.

    At most ``queue_size`` verifications and ``queue_size`` hashes wait for a thread. Each job is
    counted under a ``Requester``, so that each requester gets a fair share: see ``HashQueue``.
    """

    def __init__(self, cost: int, threads: int, queue_size: int, algorithm: str = "bcrypt") -> None:
        """Create the queue. New hashes are of ``algorithm``: ``bcrypt`` or ``argon2id``.

        ``cost`` is bcrypt's work factor: the base-2 log of its rounds. argon2id takes
        19 MiB in each thread.
        """
        self._algorithm = algorithm
        self._prefix = f"$2b${cost:02d}$" if algorithm == "bcrypt" else f"{ARGON2ID_KIND}$"
        self._rejections = RejectionCosts(cost, algorithm)
        self._salt = partial(bcrypt.gensalt, cost)
        self.queue = HashQueue(threads, queue_size, _lower_thread_priority)
        self._decoy = make_decoy(algorithm, cost)

    def close(self) -> None:
        """Cancel the waiting jobs and let the running jobs finish."""
        self.queue.close()

    async def hash(self, password: str, requester: Requester) -> str:
        """Return the hash of ``password``, which the policy has accepted.

        Raise ``Unavailable`` when the queue is full.
        """
        given = password.encode()
        return await self._run(lambda: self._hash(given), requester, is_login=False)

    async def verify(
        self,
        password: str,
        hashed: str | None,
        requester: Requester,
        deadline: float = math.inf,
        will_reject: bool = False,
    ) -> bool:
        """Return whether ``password`` matches ``hashed``.

        ``hashed`` is ``None`` when the user does not exist. A missing hash never matches, but costs
        the same work. So does a password that is too long for the algorithm. With ``will_reject``
        the caller rejects the password in any case: a match then costs the work of a rejection.
        Raise ``Unavailable`` when the queue is full, or when no thread begins before ``deadline``,
        on the clock of ``time.monotonic``.
        """
        given = password.encode()
        against = hashed if hashed is not None else self._decoy

        def check_before_deadline() -> bool | None:
            if time.monotonic() > deadline:
                return None
            return self._check(given, against, will_reject)

        matches = await self._run(check_before_deadline, requester, is_login=True)
        if matches is None:
            raise too_busy()
        return matches and hashed is not None

    def is_outdated(self, hashed: str, password: str) -> bool:
        """Return whether ``hashed`` was made by another algorithm or with another cost.

        A hash of a password that the current algorithm cannot take stays as it is.
        """
        is_too_long = self._algorithm == "bcrypt" and len(password.encode()) > MAX_BCRYPT_BYTES
        return not hashed.startswith(self._prefix) and not is_too_long

    def _hash(self, password: bytes) -> str:
        """Return the hash of ``password``. Runs in a thread."""
        if self._algorithm == "bcrypt":
            return bcrypt.hashpw(password, self._salt()).decode()
        return ARGON2ID.hash(password)

    def _check(self, password: bytes, hashed: str, will_reject: bool) -> bool:
        """Return whether ``password`` matches ``hashed``. Runs in a thread."""
        try:
            parsed = parse(hashed)
            matches = parsed.verify(password)
        except ValueError:  # No hash, or one that takes too much: no password matches it.
            parsed = parse(self._decoy)
            parsed.verify(password)
            matches = False
        if not matches or will_reject:
            self._rejections.add_work(parsed, password)
        return matches

    async def _run(
        self, work: Callable[[], _Result], requester: Requester, *, is_login: bool
    ) -> _Result:
        try:
            return await self.queue.run(work, requester, is_login=is_login)
        except QueueFull:
            raise too_busy() from None


def make_decoy(algorithm: str, cost: int) -> str:
    """Return the hash that is verified when the user does not exist. No password is known for it.

    Its checksum is all zeros. A verification takes the same time for every checksum, and to make
    the hash of a password would delay the start by that time.
    """
    if algorithm == "bcrypt":
        return bcrypt.gensalt(cost).decode() + "." * 31
    salt = base64.b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    return f"{ARGON2ID_KIND}${salt}${'A' * 43}"


def too_busy() -> Unavailable:
    """Return the error for a request that would wait too long for a hash."""
    return Unavailable("server", "is too busy", code=ErrorCode.PASSWORDS_BUSY, retry_after=5)


def usable_cores() -> int:
    """Return how many cores this process may use: its CPU affinity where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lower_thread_priority() -> None:
    # On Linux each thread has its own priority. Elsewhere this would slow the whole process.
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


PASSWORDS = web.AppKey("passwords", PasswordHasher)
