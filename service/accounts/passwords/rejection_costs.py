"""Make every rejection of a password take the same time, whatever the hash of the account is.

The time of a rejection must not reveal that an account exists. Accounts can have hashes of
different costs and algorithms: after a setting has changed, and after an import. So a rejection
does the work of every kind of hash that was rejected lately, and that of the current one.

Three cases still reveal that an account exists: a bcrypt cost more than ``MAX_EXTRA_COST`` above
the current one, a kind of hash beyond ``MAX_KINDS``, and the first rejection of another kind within
``EXTRA_COST_SECONDS``. The next login of the owner replaces such a hash.
"""

import math
import secrets
import threading
import time

import bcrypt

from service.accounts.passwords.schemes import ARGON2ID, ARGON2ID_KIND, ParsedHash, parse

# Each step of the cost doubles the time: a rejection takes at most four times as long as a hash of
# the current cost.
MAX_EXTRA_COST = 2
EXTRA_COST_SECONDS = 3600.0  # How long a rejection of another kind makes other rejections slower.
MAX_KINDS = 4  # Kinds beside bcrypt.


class RejectionCosts:
    """Remember which kinds of hashes were rejected lately. Threads use it at the same time."""

    def __init__(self, cost: int, algorithm: str) -> None:
        """Begin with the kind of new hashes: ``algorithm``, with bcrypt's ``cost``."""
        self._lock = threading.Lock()
        self._cost = cost
        self._uses_bcrypt = algorithm == "bcrypt"
        self._highest_cost = cost
        self._highest_cost_until = -math.inf
        self._bcrypt_until = math.inf if self._uses_bcrypt else -math.inf
        self._kinds: dict[str, tuple[ParsedHash, float]] = {}
        if not self._uses_bcrypt:
            decoy = parse(ARGON2ID.hash(secrets.token_bytes(16)))
            self._kinds[ARGON2ID_KIND] = (decoy, math.inf)

    def add_work(self, rejected: ParsedHash, password: bytes) -> None:
        """Do the work that the rejection of ``rejected`` lacks. Runs in a thread."""
        spent = int(rejected.kind.split()[1]) if rejected.kind.startswith("bcrypt ") else None
        if spent is not None:
            for cost in range(spent, self._bcrypt_cost(spent)):
                bcrypt.hashpw(b"", bcrypt.gensalt(cost))
        elif time.monotonic() < self._bcrypt_until:
            bcrypt.hashpw(b"", bcrypt.gensalt(self._bcrypt_cost(0)))
        for other in self._other_kinds(rejected):
            other.verify(password)

    def _bcrypt_cost(self, spent: int) -> int:
        """Return the current cost of a rejection, after a hash of cost ``spent`` was verified.

        ``spent`` is 0 if the hash was none of bcrypt.
        """
        now = time.monotonic()
        with self._lock:
            if spent and not self._uses_bcrypt:
                self._bcrypt_until = now + EXTRA_COST_SECONDS
            if now >= self._highest_cost_until:
                self._highest_cost = self._cost
            spent = min(spent, self._cost + MAX_EXTRA_COST)
            if spent > self._cost and spent >= self._highest_cost:
                self._highest_cost = spent
                self._highest_cost_until = now + EXTRA_COST_SECONDS
            return self._highest_cost

    def _other_kinds(self, rejected: ParsedHash) -> list[ParsedHash]:
        """Return a hash of each kind but bcrypt and that of ``rejected``, and remember that one."""
        now = time.monotonic()
        with self._lock:
            for kind in [kind for kind, (_, until) in self._kinds.items() if until <= now]:
                del self._kinds[kind]
            known = self._kinds.get(rejected.kind)
            if not rejected.kind.startswith("bcrypt ") and (known or len(self._kinds) < MAX_KINDS):
                until = known[1] if known and known[1] == math.inf else now + EXTRA_COST_SECONDS
                self._kinds[rejected.kind] = (known[0] if known else rejected, until)
            return [parsed for kind, (parsed, _) in self._kinds.items() if kind != rejected.kind]
