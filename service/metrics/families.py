"""The metrics of the service: their names, kinds and labels.

Every label has a fixed set of values, so that no client can create a time series. The times of the
requests are not in this list: ``shared_values`` has them by method, route and status.
"""

from enum import Enum, auto
from typing import NamedTuple

from service.http.error_codes import ErrorCode

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets of every histogram, in seconds. One more bucket has no bound."""
SUM = len(BOUNDS) + 1
"""The position of the sum in the cells of a histogram, after its buckets."""
HISTOGRAM_CELLS = SUM + 1

PREFIX = "conduit_"


class Kind(Enum):
    """How a value is stored and printed."""

    COUNTER = auto()
    """The sum of the values of all processes."""
    HISTOGRAM = auto()
    """The sum of the buckets of all processes."""
    GAUGE = auto()
    """One value for each worker that runs."""
    AGE = auto()
    """A gauge that is stored as a time on ``clock`` and printed as the seconds since then."""


class Family(NamedTuple):
    """A metric. ``values`` are the values of its ``label``. A metric without a label has one."""

    name: str
    kind: Kind
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)


REQUESTS = Family(
    "http_request_duration_seconds",
    Kind.HISTOGRAM,
    "Time until the response to a request was complete.",
)
ERRORS = Family(
    "error_responses_total",
    Kind.COUNTER,
    "Error responses by the code in their body.",
    "code",
    tuple(ErrorCode),
)
SIGN_INS = Family(
    "sign_ins_total",
    Kind.COUNTER,
    "Sessions that a login opened.",
    "method",
    ("password", "password_and_code", "passkey", "provider", "provider_and_code"),
)
REGISTRATIONS = Family(
    "registrations_total",
    Kind.COUNTER,
    "Accounts that were registered.",
    "method",
    ("password", "provider"),
)
AUTHENTICATED = Family(
    "authenticated_requests_total", Kind.COUNTER, "Requests of users with a valid token."
)
CACHE_MISSES = Family(
    "session_cache_misses_total",
    Kind.COUNTER,
    "Queries for the user of a token: absent from the cache, or the cache was disabled.",
    "reason",
    ("absent", "disabled"),
)
CACHE_EVICTIONS = Family(
    "session_cache_evictions_total",
    Kind.COUNTER,
    "Users that left the full cache for another one.",
)
CACHE_INVALIDATIONS = Family(
    "session_cache_invalidations_total",
    Kind.COUNTER,
    "Notifications of changed users and ended sessions that processes received.",
)
STALE_READS = Family(
    "session_cache_stale_reads_total",
    Kind.COUNTER,
    "Reads of a user that were not cached because the user changed during the read.",
)
HASH_WAIT = Family(
    "password_hash_wait_seconds",
    Kind.HISTOGRAM,
    "Time that a password waited for a thread.",
    "queue",
    ("login", "other"),
)
MAILS = Family(
    "mails_total",
    Kind.COUNTER,
    "Attempts to send a mail: accepted, delayed by the server, refused by the server, or the "
    "server was not reached.",
    "result",
    ("sent", "delayed", "refused", "unreachable"),
)
RESTARTS = Family("worker_restarts_total", Kind.COUNTER, "Workers that exited and were replaced.")
HANGS = Family(
    "worker_hangs_total", Kind.COUNTER, "Workers that were killed because they sent no heartbeats."
)
HEARTBEAT = Family(
    "worker_heartbeat_age_seconds", Kind.AGE, "Time since the event loop of a worker ran."
)
CONNECTIONS = Family("connections_open", Kind.GAUGE, "Open connections of clients.")
POOL_SIZE = Family("database_pool_size", Kind.GAUGE, "Maximum connections of the pool.")
POOL_IN_USE = Family("database_pool_in_use", Kind.GAUGE, "Connections of the pool in use.")
POOL_WAITING = Family(
    "database_pool_waiting", Kind.GAUGE, "Statements and transactions that wait for a connection."
)
CACHE_USERS = Family("session_cache_users", Kind.GAUGE, "Users of sessions in the cache.")
CACHE_TRUSTED = Family(
    "session_cache_trusted", Kind.GAUGE, "1 if the cache is used, 0 if it is disabled."
)
LISTENER_HEARTBEAT = Family(
    "change_listener_heartbeat_age_seconds",
    Kind.AGE,
    "Time since the last heartbeat was sent that came back from the database.",
)
HASH_THREADS = Family("password_hash_threads", Kind.GAUGE, "Threads that hash passwords.")
HASHES_RUNNING = Family("password_hashes_running", Kind.GAUGE, "Passwords that are being hashed.")
HASHES_WAITING = Family(
    "password_hashes_waiting",
    Kind.GAUGE,
    "Passwords that wait for a thread.",
    "queue",
    ("login", "other"),
)

FAMILIES = (
    ERRORS,
    SIGN_INS,
    REGISTRATIONS,
    AUTHENTICATED,
    CACHE_MISSES,
    CACHE_EVICTIONS,
    CACHE_INVALIDATIONS,
    STALE_READS,
    HASH_WAIT,
    MAILS,
    RESTARTS,
    HANGS,
    HEARTBEAT,
    CONNECTIONS,
    POOL_SIZE,
    POOL_IN_USE,
    POOL_WAITING,
    CACHE_USERS,
    CACHE_TRUSTED,
    LISTENER_HEARTBEAT,
    HASH_THREADS,
    HASHES_RUNNING,
    HASHES_WAITING,
)
"""Every metric that is stored in fixed cells."""
