"""The cache that authenticates a request without SQL. Its size is bounded.

It holds the claims of verified tokens, which never go out of date, and the users of sessions.
Notifications invalidate single users. The users are cleared when a notification may have been lost.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from service.accounts.sessions.access_tokens import Claims
from service.accounts.user import User


@dataclass(eq=False, slots=True)
class PendingLoad:
    """A database read in progress; ``stale`` once its result may be out of date."""

    user_id: UUID
    session_id: UUID
    stale: bool = False


class SessionCache:
    """Cache at most ``size`` users and ``size`` tokens; a new entry evicts the oldest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._loads: set[PendingLoad] = set()
        self._sessions: dict[UUID, set[UUID]] = {}  # The cached sessions of each user.
        # Ordered: in a plain dict the oldest entry is found only by a walk over deleted ones.
        self.users: OrderedDict[UUID, User] = OrderedDict()  # By the session.
        self.claims: OrderedDict[str, Claims] = OrderedDict()  # By the token.

    def put_claims(self, token: str, claims: Claims) -> None:
        """Cache the claims of a verified token."""
        if not self._size:
            return
        if len(self.claims) >= self._size:
            self.claims.popitem(last=False)
        self.claims[token] = claims

    @contextmanager
    def loading(self, user_id: UUID, session_id: UUID) -> Iterator[PendingLoad]:
        """Track a database read. An invalidation during it marks its result as stale."""
        load = PendingLoad(user_id, session_id)
        self._loads.add(load)
        try:
            yield load
        finally:
            self._loads.discard(load)

    def put_user(self, user: User) -> None:
        """Cache the user of a session."""
        if user.session_id not in self.users and len(self.users) >= self._size:
            self._drop(next(iter(self.users)))
        self.users[user.session_id] = user
        self._sessions.setdefault(user.id, set()).add(user.session_id)

    def invalidate(self, payload: str) -> None:
        """Drop what a notification names: ``user:<id>``, ``session:<id>`` or ``all:``."""
        kind, _, text = payload.partition(":")
        if kind == "all":
            self.clear()
            return
        if kind not in ("user", "session"):
            return  # A newer version of the service sends it.
        changed = UUID(text)
        if kind == "session":
            self._drop(changed)
        for session_id in list(self._sessions.get(changed, ())):
            self._drop(session_id)
        for load in self._loads:
            if changed in (load.user_id, load.session_id):
                load.stale = True

    def clear(self) -> None:
        """Drop every user: a notification may have been lost."""
        self.users.clear()
        self._sessions.clear()
        for load in self._loads:
            load.stale = True

    def _drop(self, session_id: UUID) -> None:
        user = self.users.pop(session_id, None)
        if user is not None:
            cached = self._sessions[user.id]
            cached.discard(session_id)
            if not cached:
                del self._sessions[user.id]
