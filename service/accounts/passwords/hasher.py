"""Password hashing: bcrypt in a bounded pool of threads that gives way to everything else.

bcrypt lets go of the interpreter lock, so threads use every core; their lower priority keeps the
event loop quick while a storm of logins is worked off.
"""

import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import bcrypt
from aiohttp import web

from service.accounts.passwords.hash_queue import HashQueue, QueueFull, Requester
from service.http.errors import Unavailable

LONGEST_PASSWORD = 72  # Bytes: bcrypt reads no further.
NICENESS = 10
EXTRA_COST = 2  # Each step doubles the time: a refusal takes at most four times today's hash.
EXTRA_COST_SECONDS = 3600.0  # How long a refused hash of a higher cost makes other refusals slower.

_Result = TypeVar("_Result")


class PasswordHasher:
    """Hashes and verifies on ``threads`` threads.

    At most ``queue_size`` verifications wait for a thread, and as many hashes. A ``Requester`` is
    what a job is counted under, so that each gets its share: see ``HashQueue``.
    """

    def __init__(self, cost: int, threads: int, queue_size: int) -> None:
        """``cost`` is bcrypt's work factor: the logarithm to base 2 of its rounds."""
        self._cost = cost
        self._highest_cost = cost
        self._highest_cost_until = -math.inf
        self._highest_cost_lock = threading.Lock()
        self.queue = HashQueue(threads, queue_size, _lower_thread_priority)
        # Verified in place of the hash that an unknown user does not have.
        self._decoy = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt(cost))

    def close(self) -> None:
        """Drop the jobs that wait and let the running ones end."""
        self.queue.close()

    async def hash(self, password: str, requester: Requester) -> str:
        """The hash of ``password``, of at most 72 bytes. Raises ``Unavailable`` when too busy."""
        salt = bcrypt.gensalt(self._cost)
        hashed = await self._run(
            lambda: bcrypt.hashpw(password.encode(), salt), requester, is_login=False
        )
        return hashed.decode()

    async def verify(
        self,
        password: str,
        hashed: str | None,
        requester: Requester,
        begin_until: float = math.inf,
    ) -> bool:
        """Whether ``password`` is the one that ``hashed`` was made of.

        ``None`` (no such user) and a password longer than any could be cost the same work. Raises
        ``Unavailable`` when too busy to begin until ``begin_until``, on ``time.monotonic``'s clock.
        """
        given = password.encode()
        possible = hashed is not None and len(given) <= LONGEST_PASSWORD
        against = hashed.encode() if hashed is not None else self._decoy

        def look() -> bool | None:
            if time.monotonic() > begin_until:
                return None
            return self._check(given[:LONGEST_PASSWORD], against)

        matches = await self._run(look, requester, is_login=True)
        if matches is None:
            raise too_busy()
        return matches and possible

    def is_outdated(self, hashed: str) -> bool:
        """Whether ``hashed`` was made with another cost than today's."""
        return not hashed.startswith(f"$2b${self._cost:02d}$")

    def _check(self, password: bytes, hashed: bytes) -> bool:
        try:
            matches = bcrypt.checkpw(password, hashed)
        except ValueError:  # A hash in the database that is not bcrypt's: nobody's password.
            matches, hashed = False, self._decoy
            bcrypt.checkpw(password, hashed)
        # A user whose hash has another cost must not be told from one who does not exist: a refusal
        # takes as many rounds as the costliest hash refused lately, whatever was spent already.
        if not matches:
            spent = int(hashed[4:6])
            for cost in range(spent, self._refusal_cost(spent)):
                bcrypt.hashpw(password, bcrypt.gensalt(cost))
        return matches

    def _refusal_cost(self, spent: int) -> int:
        """The cost of every refusal now, after one for which a hash of cost ``spent`` was verified.

        Higher costs than today's come from a setting that was lowered or from imported users, and
        the next login of their owner renews them. What this cannot hide: a hash of a cost that is
        more than ``EXTRA_COST`` above today's, and the first refusal of a higher cost, which no
        refusal before it in the same hour had.
        """
        now = time.monotonic()
        with self._highest_cost_lock:
            if now >= self._highest_cost_until:
                self._highest_cost = self._cost
            spent = min(spent, self._cost + EXTRA_COST)
            if spent > self._cost and spent >= self._highest_cost:
                self._highest_cost = spent
                self._highest_cost_until = now + EXTRA_COST_SECONDS
            return self._highest_cost

    async def _run(
        self, work: Callable[[], _Result], requester: Requester, *, is_login: bool
    ) -> _Result:
        try:
            return await self.queue.run(work, requester, is_login=is_login)
        except QueueFull:
            raise too_busy() from None


def too_busy() -> Unavailable:
    """The refusal of what would have to wait for a hash too long."""
    return Unavailable("server", "is too busy", code="passwords_busy", retry_after=5)


def usable_cores() -> int:
    """How many cores this process may use: what it was confined to, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lower_thread_priority() -> None:
    # On Linux a thread has a priority of its own; elsewhere this would slow the whole process.
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


PASSWORDS = web.AppKey("passwords", PasswordHasher)
