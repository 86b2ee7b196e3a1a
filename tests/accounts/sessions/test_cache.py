"""What a process remembers, by itself: which questions under way are out of date."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from service.accounts.sessions.cache import SessionCache
from service.accounts.user import SessionUse, User

USER, SESSION, STRANGER = uuid4(), uuid4(), uuid4()

HEARD: dict[str, tuple[Callable[[SessionCache], None], bool]] = {
    "the user changed": (lambda memory: memory.invalidate(f"user:{USER}"), True),
    "the session ended": (lambda memory: memory.invalidate(f"session:{SESSION}"), True),
    "everything changed": (lambda memory: memory.invalidate("all:"), True),
    "something may have been missed": (lambda memory: memory.clear(), True),
    "a stranger changed": (lambda memory: memory.invalidate(f"user:{STRANGER}"), False),
    "a stranger's session ended": (lambda memory: memory.invalidate(f"session:{STRANGER}"), False),
}


@pytest.mark.parametrize(("hear", "stale"), HEARD.values(), ids=HEARD)
def test_an_answer_under_way_is_stale_after_news_of_it(
    hear: Callable[[SessionCache], None], stale: bool
) -> None:
    memory = SessionCache(10)
    with memory.loading(USER, SESSION) as load:
        assert not load.stale
        hear(memory)
        assert load.stale == stale


def test_news_after_the_answer_concern_the_next_one() -> None:
    memory = SessionCache(10)
    with memory.loading(USER, SESSION) as load:
        pass
    memory.invalidate(f"user:{USER}")
    assert not load.stale


def test_the_oldest_user_makes_room_and_leaves_nothing() -> None:
    memory = SessionCache(2)
    for number in range(5):
        use = SessionUse(0.0, 0.0, None, None)
        memory.put_user(User(uuid4(), "e", str(number), None, None, uuid4(), 0.0, use))
    assert [user.username for user in memory.users.values()] == ["3", "4"]
    assert len(memory._sessions) == 2
