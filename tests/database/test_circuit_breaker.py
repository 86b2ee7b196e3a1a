"""Test when the circuit breaker lets a request try to reach the database. The clock is a number."""

import logging

import pytest

from service.database.circuit_breaker import (
    PROBE_INTERVAL,
    RETRY_WINDOW,
    CircuitBreaker,
    DatabaseUnavailable,
)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock of ``breaker``."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    """Return a closed circuit breaker."""
    return CircuitBreaker(clock)


@pytest.fixture
def open_breaker(breaker: CircuitBreaker, clock: Clock) -> CircuitBreaker:
    """Return a circuit breaker in a long outage, before the first probe."""
    breaker.note_loss(OSError("refused"))
    clock.now += RETRY_WINDOW
    return breaker


def is_allowed(breaker: CircuitBreaker) -> bool:
    """Return whether an attempt that ends at once is allowed."""
    try:
        with breaker.attempt():
            return True
    except DatabaseUnavailable:
        return False


def test_circuit_is_closed_until_the_retry_window_has_passed(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    assert not breaker.is_open()
    breaker.note_loss(OSError("refused"))
    clock.now += RETRY_WINDOW - 0.01
    breaker.note_loss(OSError("refused"))
    assert not breaker.is_open()
    assert [is_allowed(breaker) for _ in range(3)] == [True, True, True]
    clock.now += 0.01
    assert breaker.is_open()


def test_open_circuit_allows_one_probe_at_a_time(open_breaker: CircuitBreaker) -> None:
    with open_breaker.attempt():
        assert [is_allowed(open_breaker) for _ in range(3)] == [False, False, False]


def test_open_circuit_allows_no_second_probe_during_a_slow_one(
    open_breaker: CircuitBreaker, clock: Clock
) -> None:
    with open_breaker.attempt():
        clock.now += 100 * PROBE_INTERVAL
        assert not is_allowed(open_breaker)


def test_open_circuit_allows_the_next_probe_after_the_interval(
    open_breaker: CircuitBreaker, clock: Clock
) -> None:
    assert is_allowed(open_breaker)
    clock.now += PROBE_INTERVAL - 0.01
    assert not is_allowed(open_breaker)
    clock.now += 0.01
    assert [is_allowed(open_breaker), is_allowed(open_breaker)] == [True, False]


def test_open_circuit_allows_the_next_probe_when_a_probe_raised(
    open_breaker: CircuitBreaker, clock: Clock
) -> None:
    """A cancelled probe must not keep the circuit open for ever."""
    with pytest.raises(KeyboardInterrupt), open_breaker.attempt():
        raise KeyboardInterrupt
    assert not is_allowed(open_breaker)
    clock.now += PROBE_INTERVAL
    assert is_allowed(open_breaker)


def test_success_closes_the_circuit(open_breaker: CircuitBreaker, clock: Clock) -> None:
    open_breaker.note_success()
    assert not open_breaker.is_open()
    assert [is_allowed(open_breaker) for _ in range(3)] == [True, True, True]
    open_breaker.note_loss(OSError("refused"))
    clock.now += RETRY_WINDOW - 0.01
    assert not open_breaker.is_open(), "a new outage has its own window"


def test_each_outage_is_logged_once(
    breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        for _ in range(3):
            breaker.note_loss(OSError("refused"))
        for _ in range(3):
            breaker.note_success()
    assert [record.getMessage() for record in caplog.records] == [
        "database unavailable: error=OSError: refused",
        "database available again",
    ] * 2
