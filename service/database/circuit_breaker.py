"""Decide during an outage which requests may try to reach PostgreSQL.

- Closed: the database works, or was lost less than ``RETRY_WINDOW`` seconds ago. Requests retry, so
  that a restart of the server causes a delay and not an error.
- Open: the outage is longer. Requests fail at once.
- Half-open: every ``PROBE_INTERVAL`` seconds one request probes the server, and the others fail at
  once. Otherwise a server that does not respond would block them all.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

RETRY_WINDOW = 3.0  # Seconds to retry after a loss of the database; then requests fail at once.
PROBE_INTERVAL = 1.0  # Seconds between two probes of the server in a long outage.


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached now. The failed statement may or may not have taken effect."""


class CircuitBreaker:
    """The state of the connection to one server, as the requests find it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Measure time with ``clock``, in seconds."""
        self._clock = clock
        self._lost_since: float | None = None
        self._next_probe = 0.0

    def is_open(self) -> bool:
        """Return whether ``RETRY_WINDOW`` has passed since the first loss that was noticed."""
        return self._lost_since is not None and self._clock() - self._lost_since >= RETRY_WINDOW

    def note_loss(self, error: BaseException) -> None:
        """Note that the database could not be reached because of ``error``."""
        if self._lost_since is None:
            self._lost_since = self._clock()
            logger.warning("database unavailable: error=%s: %s", type(error).__name__, error)

    def note_success(self) -> None:
        """Note that the database has responded. This closes the circuit."""
        if self._lost_since is not None:
            self._lost_since = None
            logger.info("database available again")

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Enclose an attempt to connect. Raise ``DatabaseUnavailable`` if none is allowed now."""
        if not self.is_open():
            yield
            return
        if self._clock() < self._next_probe:
            raise DatabaseUnavailable
        self._next_probe = math.inf  # Until this probe has ended.
        try:
            yield
        finally:
            self._next_probe = self._clock() + PROBE_INTERVAL
