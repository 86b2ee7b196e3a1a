"""Hash and verify passwords in threads, and take the same time for every rejection."""

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import bcrypt
import pytest

from service.accounts.passwords import hasher as passwords
from service.accounts.passwords import rejection_costs
from service.accounts.passwords.hasher import (
    NICENESS,
    PasswordHasher,
    usable_cores,
)
from service.accounts.passwords.rejection_costs import EXTRA_COST_SECONDS
from service.accounts.passwords.schemes import MAX_BCRYPT_BYTES
from service.http.error_codes import ErrorCode
from service.http.errors import Unavailable
from tests.accounts.conftest import REQUESTER, hasher_of, hold_workers, jobs_of, until
from tests.conftest import Client, MakeClient
from tests.responses import assert_error

CREDENTIALS = {"user": {"email": "alice@example.test", "password": "alice-secret"}}
# Well-formed: bcrypt does the whole work of cost 13 and finds no match.
SLOW_HASH = "$2b$13$" + "a" * 21 + "u" + "a" * 30 + "u"


@pytest.fixture
async def hasher() -> AsyncIterator[PasswordHasher]:
    """Yield a hasher with one thread and one place in the queue."""
    hasher = PasswordHasher(cost=4, threads=1, queue_size=1)
    yield hasher
    hasher.close()


async def test_job_is_rejected_when_the_queue_is_full(hasher: PasswordHasher) -> None:
    results = await asyncio.gather(
        *(hasher.hash("a password", REQUESTER) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [str, str, Unavailable]
    error = results[2]
    assert isinstance(error, Unavailable)
    assert error.code is ErrorCode.PASSWORDS_BUSY
    assert error.headers == {"Retry-After": "5"}


async def test_queue_accepts_jobs_again_after_it_was_full(hasher: PasswordHasher) -> None:
    for _ in range(3):
        results = await asyncio.gather(
            *(hasher.verify("a password", None, REQUESTER) for _ in range(4)),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [bool, bool, Unavailable, Unavailable]


async def test_hash_matches_only_its_password(hasher: PasswordHasher) -> None:
    longest = "x" * MAX_BCRYPT_BYTES
    hashed = await hasher.hash(longest, REQUESTER)
    assert await hasher.verify(longest, hashed, REQUESTER)
    assert not await hasher.verify(longest + "x", hashed, REQUESTER)
    assert not await hasher.verify(longest[:-1], hashed, REQUESTER)
    assert not await hasher.verify(longest, None, REQUESTER)


async def test_hashes_of_one_password_differ(hasher: PasswordHasher) -> None:
    assert await hasher.hash("a password", REQUESTER) != await hasher.hash("a password", REQUESTER)


async def test_hash_of_another_cost_or_algorithm_is_outdated(hasher: PasswordHasher) -> None:
    assert not hasher.is_outdated(await hasher.hash("a password", REQUESTER), "a password")
    assert hasher.is_outdated("$2b$05$" + "a" * 53, "a password")
    assert hasher.is_outdated("$2a$04$" + "a" * 53, "a password")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's threads have a priority")
async def test_hashing_thread_has_a_lower_priority(hasher: PasswordHasher) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    theirs = await hasher.queue.run(
        lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), REQUESTER, is_login=True
    )
    assert theirs == NICENESS
    assert ours < theirs


async def test_requests_that_need_a_hash_are_503_when_the_queue_is_full(
    make_client: MakeClient, gate: threading.Event
) -> None:
    client = await make_client(password_queue_size=0)
    token = await client.register("alice")
    hasher = hasher_of(client)
    jobs = hold_workers(hasher, gate)
    await asyncio.sleep(0)
    fresh = {"username": "bob", "email": "bob@example.test", "password": "bob-secret"}
    rejected = [
        await client.post("/api/users/login", CREDENTIALS),
        await client.post("/api/users", {"user": fresh}),
        await client.put("/api/user", {"user": {"password": "another one"}}, token=token),
        await client.delete("/api/user", {"user": {"password": "alice-secret"}}, token=token),
    ]
    for response in rejected:
        assert_error(response, 503, "passwords_busy", {"server": ["is too busy"]})
        assert response.headers["Retry-After"] == "5"
    # A request without a hash still succeeds.
    assert (await client.get("/api/user", token=token)).status == 200

    gate.set()
    await asyncio.gather(*jobs)
    assert (await client.post("/api/users/login", CREDENTIALS)).status == 200
    assert (await client.post("/api/users", {"user": fresh})).status == 200


MALFORMED = {
    "nothing": "",
    "no hash": "alice-secret",
    "another kind of hash": "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA",
    "half a hash": "$2b$04$abcdefghijklmnopqrstuv",
    "a cost that is no number": "$2b$xx$" + "a" * 53,
    "a cost that is too low": "$2b$00$" + "a" * 53,
    "an unknown version": "$2z$04$" + "a" * 53,
    "letters that base64 lacks": "$2b$04$" + "!" * 53,
    "letters beyond ASCII": "$2b$04$" + "é" * 53,
    "only dollars": "$$$$",
}


@pytest.mark.parametrize("stored", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_hash_matches_no_password(
    client: Client, alice: str, db: asyncpg.Connection, stored: str
) -> None:
    await db.execute("update users set password_hash = $1", stored)
    for password in ("alice-secret", stored or "x"):
        credentials = {"email": "alice@example.test", "password": password}
        login = await client.post("/api/users/login", {"user": credentials})
        assert_error(login, 401, "invalid_credentials", {"credentials": ["invalid"]})
        deletion = await client.delete("/api/user", {"user": {"password": password}}, token=alice)
        assert_error(deletion, 401, "invalid_credentials", {"credentials": ["invalid"]})


async def test_running_hash_does_not_delay_other_requests(
    client: Client, alice: str, db: asyncpg.Connection
) -> None:
    await db.execute("update users set password_hash = $1", SLOW_HASH)
    login = asyncio.create_task(client.post("/api/users/login", CREDENTIALS))
    hasher = hasher_of(client)
    await until(lambda: jobs_of(hasher) > 0 or login.done())
    for _ in range(3):
        assert (await client.get("/health")).status == 200
        assert (await client.get("/api/user", token=alice)).status == 200
    # These requests began after the login and ended before it.
    assert not login.done()
    assert (await login).status == 401


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/api/users", {"username": "bob", "email": "b@b.test", "password": "bob-secret"}),
        ("POST", "/api/users/login", CREDENTIALS["user"]),
        ("PUT", "/api/user", {"password": "another one"}),
        ("DELETE", "/api/user", {"password": "alice-secret"}),
    ],
    ids=["register", "login", "update", "delete"],
)
async def test_no_connection_is_held_while_a_password_is_hashed(
    make_client: MakeClient,
    gate: threading.Event,
    method: str,
    path: str,
    fields: dict[str, str],
) -> None:
    client = await make_client(database_pool_size=1)
    token = await client.register("alice")
    other = await client.register("carol")
    hasher = hasher_of(client)
    # All threads are busy until the gate opens, so the hash of the request waits.
    jobs = hold_workers(hasher, gate)
    await asyncio.sleep(0)
    request = asyncio.create_task(client.send(method, path, {"user": fields}, token=token))
    await until(lambda: jobs_of(hasher) > len(jobs) or request.done())
    assert not request.done()
    # There is one connection. If the request held it, this would never return.
    assert (await client.get("/api/user", token=other)).status == 200
    assert not request.done()
    gate.set()
    assert (await request).status in (200, 204)
    await asyncio.gather(*jobs)


async def test_usable_cores_are_all_cores_without_cpu_affinity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Remove the function that macOS does not have."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the rounds of each call of bcrypt are added."""
    rounds: list[int] = []
    check, hash_ = bcrypt.checkpw, bcrypt.hashpw

    def checked(password: bytes, hashed: bytes) -> bool:
        matches = check(password, hashed)
        rounds.append(2 ** int(hashed[4:6]))
        return matches

    def hashed(password: bytes, salt: bytes) -> bytes:
        rounds.append(2 ** int(salt[4:6]))
        return hash_(password, salt)

    monkeypatch.setattr(bcrypt, "checkpw", checked)
    monkeypatch.setattr(bcrypt, "hashpw", hashed)
    return rounds


async def spent_on(hasher: PasswordHasher, rounds: list[int], stored: str | None) -> int:
    """Return the rounds of one rejection."""
    rounds.clear()
    assert not await hasher.verify("another", stored, REQUESTER)
    return sum(rounds)


def hash_of(cost: int) -> str:
    return bcrypt.hashpw(b"a password", bcrypt.gensalt(cost)).decode()


@pytest.mark.parametrize(
    ("cost", "spent"), [(4, 2**7), (5, 2**7), (7, 2**7), (8, 2**8), (9, 2**9), (None, 2**7)]
)
async def test_rejection_takes_the_same_rounds_for_known_and_unknown_accounts(
    rounds: list[int], cost: int | None, spent: int
) -> None:
    """The hash of the known account has the current cost, another cost, or is malformed."""
    hasher = PasswordHasher(cost=7, threads=1, queue_size=1)
    known = await spent_on(hasher, rounds, hash_of(cost) if cost else "no hash")
    assert known == await spent_on(hasher, rounds, None) == spent
    hasher.close()


async def test_match_that_the_caller_rejects_takes_the_rounds_of_a_rejection(
    rounds: list[int],
) -> None:
    """The time must not reveal a right guess at a locked login."""
    hasher = PasswordHasher(cost=7, threads=1, queue_size=1)
    assert await hasher.verify("a password", hash_of(4), REQUESTER, math.inf, True)
    assert rounds[-4:] == [2**4, 2**4, 2**5, 2**6]
    assert await hasher.verify("a password", hash_of(4), REQUESTER)
    assert rounds[-1] == 2**4
    hasher.close()


@dataclass
class Clock:
    """Replace the module ``time``."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_higher_cost_slows_other_rejections_up_to_a_bound_and_for_a_limited_time(
    rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(passwords, "time", clock)
    monkeypatch.setattr(rejection_costs, "time", clock)
    hasher = PasswordHasher(cost=4, threads=1, queue_size=1)
    # Rejections of other accounts take at most four times the current rounds.
    assert await spent_on(hasher, rounds, hash_of(8)) == 2**8
    assert await spent_on(hasher, rounds, None) == 2**6
    # The rejection of a lower cost does not extend the time.
    clock.now += EXTRA_COST_SECONDS / 2
    assert await spent_on(hasher, rounds, hash_of(5)) == 2**6
    clock.now += EXTRA_COST_SECONDS / 2
    assert await spent_on(hasher, rounds, None) == 2**4
    # Afterwards a lower cost has an effect again, and each of its rejections restarts the time.
    for _ in range(3):
        assert await spent_on(hasher, rounds, hash_of(5)) == 2**5
        clock.now += EXTRA_COST_SECONDS * 0.9
        assert await spent_on(hasher, rounds, None) == 2**5
    hasher.close()


async def test_correct_password_of_a_higher_cost_slows_no_rejection(rounds: list[int]) -> None:
    """The login replaces its hash."""
    hasher = PasswordHasher(cost=4, threads=1, queue_size=1)
    assert await hasher.verify("a password", hash_of(6), REQUESTER)
    assert await spent_on(hasher, rounds, None) == 2**4
    hasher.close()


async def test_password_is_not_verified_past_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasher = PasswordHasher(cost=4, threads=1, queue_size=1)
    stored = hash_of(4)
    assert await hasher.verify("a password", stored, REQUESTER, time.monotonic() + 60)
    monkeypatch.setattr(hasher, "_check", lambda *_: pytest.fail("the password was verified"))
    with pytest.raises(Unavailable):
        await hasher.verify("a password", stored, REQUESTER, time.monotonic() - 1)
    hasher.close()
