"""Password hashing: bcrypt in a bounded pool of threads with low priority.

bcrypt releases the interpreter lock, so the threads use every core. Their low priority keeps the
event loop responsive during a burst of logins.
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
from service.http.error_codes import ErrorCode
from service.http.errors import Unavailable

MAX_PASSWORD_BYTES = 72  # bcrypt ignores all further bytes.
NICENESS = 10
# Each step of the cost doubles the time: a rejection takes at most four times as long as a hash of
# the current cost.
MAX_EXTRA_COST = 2
EXTRA_COST_SECONDS = 3600.0  # How long a rejection of a higher cost makes other rejections slower.

_Result = TypeVar("_Result")


class PasswordHasher:
    """Hash and verify passwords on ``threads`` threads.

    At most ``queue_size`` verifications and ``queue_size`` hashes wait for a thread. Each job is
    counted under a ``Requester``, so that each requester gets a fair share: see ``HashQueue``.
    """

    def __init__(self, cost: int, threads: int, queue_size: int) -> None:
        """Create the queue. ``cost`` is bcrypt's work factor: the base-2 log of its rounds."""
        self._cost = cost
        self._highest_cost = cost
        self._highest_cost_until = -math.inf
        self._highest_cost_lock = threading.Lock()
        self.queue = HashQueue(threads, queue_size, _lower_thread_priority)
        # The hash that is verified when the user does not exist.
        self._decoy = bcrypt.hashpw(secrets.token_bytes(16), bcrypt.gensalt(cost))

    def close(self) -> None:
        """Cancel the waiting jobs and let the running jobs finish."""
        self.queue.close()

    async def hash(self, password: str, requester: Requester) -> str:
        """Return the hash of ``password``, which has at most 72 bytes.

        Raise ``Unavailable`` when the queue is full.
        """
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
        deadline: float = math.inf,
        will_reject: bool = False,
    ) -> bool:
        """Return whether ``password`` matches ``hashed``.

        ``hashed`` is ``None`` when the user does not exist. A missing hash and a password of more
        than 72 bytes never match, but cost the same work. With ``will_reject`` the caller rejects
        the password in any case: a match then costs the work of a rejection. Raise ``Unavailable``
        when the queue is full, or when no thread begins before ``deadline``, on the clock of
        ``time.monotonic``.
        """
        given = password.encode()
        can_match = hashed is not None and len(given) <= MAX_PASSWORD_BYTES
        against = hashed.encode() if hashed is not None else self._decoy

        def check_before_deadline() -> bool | None:
            if time.monotonic() > deadline:
                return None
            return self._check(given[:MAX_PASSWORD_BYTES], against, will_reject)

        matches = await self._run(check_before_deadline, requester, is_login=True)
        if matches is None:
            raise too_busy()
        return matches and can_match

    def is_outdated(self, hashed: str) -> bool:
        """Return whether ``hashed`` was made by another algorithm or with another cost."""
        return not hashed.startswith(f"$2b${self._cost:02d}$")

    def _check(self, password: bytes, hashed: bytes, will_reject: bool) -> bool:
        """Return whether ``password`` matches ``hashed``. Runs in a thread."""
        try:
            matches = bcrypt.checkpw(password, hashed)
        except ValueError:  # Not a bcrypt hash: no password matches it.
            matches, hashed = False, self._decoy
            bcrypt.checkpw(password, hashed)
        # The time of a rejection must not reveal that a user with a hash of another cost exists. So
        # every rejection takes as many rounds in total as the highest cost rejected recently.
        if not matches or will_reject:
            spent = int(hashed[4:6])
            for cost in range(spent, self._rejection_cost(spent)):
                bcrypt.hashpw(password, bcrypt.gensalt(cost))
        return matches

    def _rejection_cost(self, spent: int) -> int:
        """Return the current cost of a rejection, after a hash of cost ``spent`` was verified.

        Costs above the current one come from a setting that was lowered or from imported users. The
        next login of the owner rehashes the password. Two cases still reveal that a user exists: a
        cost more than ``MAX_EXTRA_COST`` above the current one, and the first rejection of a higher
        cost within ``EXTRA_COST_SECONDS``.
        """
        now = time.monotonic()
        with self._highest_cost_lock:
            if now >= self._highest_cost_until:
                self._highest_cost = self._cost
            spent = min(spent, self._cost + MAX_EXTRA_COST)
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
