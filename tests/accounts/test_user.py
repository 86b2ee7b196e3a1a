"""The user and the session of a request, made from a row."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from service.accounts.user import SessionUse, User

USED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROW: dict[str, Any] = {
    "id": uuid4(),
    "email": "jake@example.test",
    "username": "jake",
    "bio": None,
    "image": None,
    "password_hash": "$2b$12$secret",
    "session_id": uuid4(),
    "session_expires_at": datetime(2026, 2, 1, tzinfo=UTC),
    "auth_time": USED,
    "amr": ["pwd"],
    "two_factor": False,
    "roles": [],
    "last_used_at": USED,
    "touched_at": None,
    "ip": "192.0.2.1",
    "user_agent": None,
}


def user_of(**changes: Any) -> User:
    return User.of({**ROW, **changes})


def test_user_has_no_password_hash() -> None:
    user = user_of()
    assert (user.id, user.email, user.username) == (ROW["id"], "jake@example.test", "jake")
    assert "secret" not in repr(user)


def test_users_are_equal_when_only_the_use_of_the_session_differs() -> None:
    assert user_of() == user_of(ip="192.0.2.2")
    assert user_of() != user_of(session_expires_at=USED)


def test_user_with_another_profile_keeps_the_session() -> None:
    user = user_of()
    changed = user.with_profile({**ROW, "username": "jacob", "session_id": uuid4()})
    assert changed.username == "jacob"
    assert changed == user_of(username="jacob")


def test_session_use_has_times_in_seconds_and_0_when_never_touched() -> None:
    assert SessionUse.of(ROW).last_used_at == USED.timestamp()
    assert SessionUse.of(ROW).touched_at == 0
    assert SessionUse.of({**ROW, "touched_at": USED}).touched_at == USED.timestamp()
