"""Test which workers count as hanging. ``test_supervisor_recovery.py`` tests real workers."""

from service.heartbeats import MAX_SILENT_CHECKS, Heartbeats


def check(heartbeats: Heartbeats, count: int) -> list[int]:
    """Check ``count`` times and return the indexes of the workers that were reported."""
    return [index for _ in range(count) for index in heartbeats.find_hanging()]


def test_silent_worker_is_reported_once() -> None:
    heartbeats = Heartbeats(3)
    for index in range(3):
        heartbeats.send(index)
    assert heartbeats.find_hanging() == []
    for _ in range(MAX_SILENT_CHECKS - 1):
        heartbeats.send(0)
        assert heartbeats.find_hanging() == []
    heartbeats.send(0)
    assert heartbeats.find_hanging() == [1, 2]
    assert check(heartbeats, 3 * MAX_SILENT_CHECKS) == [0]


def test_one_heartbeat_resets_the_count() -> None:
    heartbeats = Heartbeats(1)
    for _ in range(3):
        heartbeats.send(0)
        assert check(heartbeats, MAX_SILENT_CHECKS) == []
    assert heartbeats.find_hanging() == [0]


def test_worker_is_not_watched_before_its_first_heartbeat() -> None:
    heartbeats = Heartbeats(1)
    assert check(heartbeats, 3 * MAX_SILENT_CHECKS) == []
    heartbeats.send(0)
    assert check(heartbeats, 1 + MAX_SILENT_CHECKS) == [0]


def test_replacement_is_not_watched_before_its_own_first_heartbeat() -> None:
    heartbeats = Heartbeats(2)
    for index in range(2):
        heartbeats.send(index)
    assert check(heartbeats, MAX_SILENT_CHECKS) == []
    heartbeats.send(0)
    heartbeats.reset(0)  # The last heartbeat of the previous worker does not count.
    assert check(heartbeats, 3 * MAX_SILENT_CHECKS) == [1]
