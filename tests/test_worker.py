"""Which workers count as hanging; ``test_survive.py`` has the real ones."""

from service.worker import SILENT_LOOKS, Heartbeats


def looks(heartbeats: Heartbeats, count: int) -> list[int]:
    """Look ``count`` times; the indexes that were reported."""
    return [index for _ in range(count) for index in heartbeats.look()]


def test_worker_that_falls_silent_is_reported_once() -> None:
    heartbeats = Heartbeats(3)
    for index in range(3):
        heartbeats.send(index)
    assert heartbeats.look() == []
    for _ in range(SILENT_LOOKS - 1):
        heartbeats.send(0)
        assert heartbeats.look() == []
    heartbeats.send(0)
    assert heartbeats.look() == [1, 2]
    assert looks(heartbeats, 3 * SILENT_LOOKS) == [0]


def test_one_heartbeat_opens_a_new_window() -> None:
    heartbeats = Heartbeats(1)
    for _ in range(3):
        heartbeats.send(0)
        assert looks(heartbeats, SILENT_LOOKS) == []
    assert heartbeats.look() == [0]


def test_worker_is_not_watched_before_its_first_heartbeat() -> None:
    heartbeats = Heartbeats(1)
    assert looks(heartbeats, 3 * SILENT_LOOKS) == []
    heartbeats.send(0)
    assert looks(heartbeats, 1 + SILENT_LOOKS) == [0]


def test_replacement_is_not_watched_before_its_own_first_heartbeat() -> None:
    heartbeats = Heartbeats(2)
    for index in range(2):
        heartbeats.send(index)
    assert looks(heartbeats, SILENT_LOOKS) == []
    heartbeats.send(0)
    heartbeats.reset(0)  # What the former worker sent last does not count.
    assert looks(heartbeats, 3 * SILENT_LOOKS) == [1]
