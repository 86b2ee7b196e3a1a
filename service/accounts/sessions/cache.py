"""What a process remembers, so that an authenticated request needs no SQL; all of it bounded.

Two tables: the claims of tokens whose signature was checked, and the users behind sessions. The
first never goes out of date, the second is emptied by notifications, entry by entry, or whole when
one may have been missed.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from service.accounts.sessions.access_tokens import Claims
from service.accounts.user import User


@dataclass(eq=False, slots=True)
class Load:
    """A question to the database under way; ``stale`` once its answer may be out of date."""

    user_id: UUID
    session_id: UUID
    stale: bool = False


class Memory:
    """At most ``size`` users and ``size`` tokens; the oldest entry makes room for a new one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._loads: set[Load] = set()
        self._sessions: dict[UUID, set[UUID]] = {}  # The remembered sessions of each user.
        # Ordered ones: of a plain one the oldest entry is found by a walk over those that went.
        self.users: OrderedDict[UUID, User] = OrderedDict()  # By the session.
        self.claims: OrderedDict[str, Claims] = OrderedDict()  # By the token.

    def remember_claims(self, token: str, claims: Claims) -> None:
        """Keep what a token with a good signature says."""
        if not self._size:
            return
        if len(self.claims) >= self._size:
            self.claims.popitem(last=False)
        self.claims[token] = claims

    @contextmanager
    def loading(self, user_id: UUID, session_id: UUID) -> Iterator[Load]:
        """Around a question to the database: a change heard meanwhile makes its answer stale."""
        load = Load(user_id, session_id)
        self._loads.add(load)
        try:
            yield load
        finally:
            self._loads.discard(load)

    def remember_user(self, user: User) -> None:
        """Keep the user of a session."""
        if user.session_id not in self.users and len(self.users) >= self._size:
            self._drop(next(iter(self.users)))
        self.users[user.session_id] = user
        self._sessions.setdefault(user.id, set()).add(user.session_id)

    def hear(self, payload: str) -> None:
        """Drop what a notification, ``user:<id>``, ``session:<id>`` or ``all:``, speaks of."""
        kind, _, text = payload.partition(":")
        if kind == "all":
            self.forget()
            return
        changed = UUID(text)
        if kind == "session":
            self._drop(changed)
        for session_id in list(self._sessions.get(changed, ())):
            self._drop(session_id)
        for load in self._loads:
            if changed in (load.user_id, load.session_id):
                load.stale = True

    def forget(self) -> None:
        """Drop every user: something may have been missed."""
        self.users.clear()
        self._sessions.clear()
        for load in self._loads:
            load.stale = True

    def _drop(self, session_id: UUID) -> None:
        user = self.users.pop(session_id, None)
        if user is not None:
            remembered = self._sessions[user.id]
            remembered.discard(session_id)
            if not remembered:
                del self._sessions[user.id]
