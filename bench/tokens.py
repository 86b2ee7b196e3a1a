"""Access tokens: signed by hand and by PyJWT, verified by PyJWT and found in the cache."""

import statistics
import time
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import jwt

from bench.table import Row
from service.accounts.sessions.access_tokens import ALGORITHM, AccessTokens
from service.accounts.sessions.cache import SessionCache

SECRET = "only for tokens of the bench, which no service accepts"  # noqa: S105
TTL = 86_400
COUNT = 20_000  # Tokens for one slice, each for another session.
ROUNDS = 7
MICROSECONDS = 1_000_000


def measure(report: Callable[[str], None]) -> list[Row]:
    """Measure every figure of this part and return the rows of its table. Takes ten seconds."""
    report(f"Signing and verifying {COUNT:,} tokens, {ROUNDS} rounds ...")
    session_expires_at = time.time() + 2 * TTL
    sessions = [(uuid4(), uuid4()) for _ in range(COUNT)]
    signer = AccessTokens(SECRET, (), TTL)
    signed = [signer.issue(user, session, session_expires_at).token for user, session in sessions]
    cache = SessionCache(COUNT)
    for token in signed:
        cache.put_claims(token, signer.verify(token))

    def by_hand() -> None:
        for user, session in sessions:
            signer.issue(user, session, session_expires_at)

    def by_pyjwt() -> None:
        for user, session in sessions:
            _sign_with_pyjwt(user, session)

    def verify() -> None:
        for token in signed:
            signer.verify(token)

    def find() -> None:
        for token in signed:
            cache.claims.get(token)

    hand, library, verified, found = in_turn([by_hand, by_pyjwt, verify, find], COUNT)
    return [
        Row("sign one token", f"{hand:.1f} µs", f"{library:.1f} µs", f"{hand / library:.2f}"),
        Row(
            "know the claims of one token",
            f"{found:.2f} µs",
            f"{verified:.1f} µs",
            f"{found / verified:.3f}",
        ),
    ]


def _sign_with_pyjwt(user_id: UUID, session_id: UUID) -> str:
    now = int(time.time())
    claims = {"sub": str(user_id), "iat": now, "exp": now + TTL, "sid": str(session_id)}
    return jwt.encode(claims, SECRET, algorithm=ALGORITHM)


def in_turn(subjects: Sequence[Callable[[], None]], count: int) -> list[float]:
    """Return the microseconds of CPU time per token of each subject: the median of all rounds.

    A subject handles ``count`` tokens. The subjects take turns, so that a machine that slows down
    affects all of them.
    """
    times: list[list[float]] = [[] for _ in subjects]
    for _ in range(ROUNDS):
        for subject, seen in zip(subjects, times, strict=True):
            started = time.thread_time()
            subject()
            seen.append((time.thread_time() - started) / count * MICROSECONDS)
    return [statistics.median(seen) for seen in times]
