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
    "last_used_at": USED,
    "touched_at": None,
    "ip": "192.0.2.1",
    "user_agent": None,
}


def user_of(**changes: Any) -> User:
    row = {**ROW, **changes}
    return User.of(row, uuid4(), 1_800_000_000.0, SessionUse.of(row))


def test_user_has_no_password_hash() -> None:
    user = user_of()
    assert (user.id, user.email, user.username) == (ROW["id"], "jake@example.test", "jake")
    assert "secret" not in repr(user)


def test_users_are_equal_when_only_the_use_of_the_session_differs() -> None:
    row = {**ROW, "ip": "192.0.2.2"}
    session_id = uuid4()
    first = User.of(ROW, session_id, 1.0, SessionUse.of(ROW))
    assert first == User.of(row, session_id, 1.0, SessionUse.of(row))
    assert first != User.of(ROW, session_id, 2.0, SessionUse.of(ROW))


def test_session_use_has_times_in_seconds_and_0_when_never_touched() -> None:
    assert SessionUse.of(ROW).last_used_at == USED.timestamp()
    assert SessionUse.of(ROW).touched_at == 0
    assert SessionUse.of({**ROW, "touched_at": USED}).touched_at == USED.timestamp()
