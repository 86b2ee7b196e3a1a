"""The session cache alone: stale loads and eviction."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from service.accounts.sessions.cache import SessionCache
from service.accounts.user import SessionUse, User

USER, SESSION, OTHER = uuid4(), uuid4(), uuid4()

INVALIDATIONS: dict[str, tuple[Callable[[SessionCache], None], bool]] = {
    "the user changed": (lambda cache: cache.invalidate(f"user:{USER}"), True),
    "the session ended": (lambda cache: cache.invalidate(f"session:{SESSION}"), True),
    "everything changed": (lambda cache: cache.invalidate("all:"), True),
    "a notification may have been lost": (lambda cache: cache.clear(), True),
    "another user changed": (lambda cache: cache.invalidate(f"user:{OTHER}"), False),
    "a session of another user ended": (lambda cache: cache.invalidate(f"session:{OTHER}"), False),
}


@pytest.mark.parametrize(("invalidate", "stale"), INVALIDATIONS.values(), ids=INVALIDATIONS)
def test_pending_load_is_stale_after_an_invalidation_of_it(
    invalidate: Callable[[SessionCache], None], stale: bool
) -> None:
    cache = SessionCache(10)
    with cache.loading(USER, SESSION) as load:
        assert not load.stale
        invalidate(cache)
        assert load.stale == stale


def test_finished_load_is_not_stale_after_an_invalidation() -> None:
    cache = SessionCache(10)
    with cache.loading(USER, SESSION) as load:
        pass
    cache.invalidate(f"user:{USER}")
    assert not load.stale


def test_cache_evicts_the_oldest_user_when_it_is_full() -> None:
    cache = SessionCache(2)
    for number in range(5):
        use = SessionUse(0.0, 0.0, None, None)
        names = (uuid4(), "e", str(number), None, None, uuid4())
        cache.put_user(User(*names, 0.0, 0.0, (), False, (), use))
    assert [user.username for user in cache.users.values()] == ["3", "4"]
    assert len(cache._sessions) == 2


def test_cache_ignores_a_notification_of_another_kind() -> None:
    cache = SessionCache(2)
    use = SessionUse(0.0, 0.0, None, None)
    user_id = uuid4()
    cache.put_user(User(user_id, "e", "0", None, None, uuid4(), 0.0, 0.0, (), False, (), use))
    for payload in ("keys:", f"other:{user_id}", "", "other"):
        cache.invalidate(payload)
    assert len(cache.users) == 1
    cache.invalidate(f"user:{user_id}")
    assert len(cache.users) == 0
