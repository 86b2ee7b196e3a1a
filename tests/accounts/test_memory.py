"""What a process remembers, by itself: which questions under way are out of date."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from service.accounts.sessions.cache import Memory
from service.accounts.user import SessionUse, User

USER, SESSION, STRANGER = uuid4(), uuid4(), uuid4()

HEARD: dict[str, tuple[Callable[[Memory], None], bool]] = {
    "the user changed": (lambda memory: memory.hear(f"user:{USER}"), True),
    "the session ended": (lambda memory: memory.hear(f"session:{SESSION}"), True),
    "everything changed": (lambda memory: memory.hear("all:"), True),
    "something may have been missed": (lambda memory: memory.forget(), True),
    "a stranger changed": (lambda memory: memory.hear(f"user:{STRANGER}"), False),
    "a stranger's session ended": (lambda memory: memory.hear(f"session:{STRANGER}"), False),
}


@pytest.mark.parametrize(("hear", "stale"), HEARD.values(), ids=HEARD)
def test_an_answer_under_way_is_stale_after_news_of_it(
    hear: Callable[[Memory], None], stale: bool
) -> None:
    memory = Memory(10)
    with memory.loading(USER, SESSION) as load:
        assert not load.stale
        hear(memory)
        assert load.stale == stale


def test_news_after_the_answer_concern_the_next_one() -> None:
    memory = Memory(10)
    with memory.loading(USER, SESSION) as load:
        pass
    memory.hear(f"user:{USER}")
    assert not load.stale


def test_the_oldest_user_makes_room_and_leaves_nothing() -> None:
    memory = Memory(2)
    for number in range(5):
        use = SessionUse(0.0, 0.0, None, None)
        memory.remember_user(User(uuid4(), "e", str(number), None, None, uuid4(), 0.0, use))
    assert [user.username for user in memory.users.values()] == ["3", "4"]
    assert len(memory._sessions) == 2
