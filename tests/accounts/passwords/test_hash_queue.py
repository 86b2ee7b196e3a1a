"""Requesters take turns at the hashing threads."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from service.accounts.passwords.hash_queue import HashQueue, QueueFull, Requester
from tests.accounts.conftest import REQUESTER, until

QUEUE_SIZE = 12


@pytest.fixture
async def queue() -> AsyncIterator[HashQueue]:
    """Yield a queue with one thread and twelve places for each kind of job."""
    queue = HashQueue(1, QUEUE_SIZE, lambda: None)
    yield queue
    queue.close()


class Jobs:
    """Add jobs while the only thread is busy, and record the order in which they run."""

    def __init__(self, queue: HashQueue, gate: threading.Event) -> None:
        self._queue, self._gate = queue, gate
        self._tasks = [asyncio.create_task(queue.run(gate.wait, REQUESTER, is_login=True))]
        self.order: list[str] = []

    async def add(self, name: str, ip: str, account: str, *, is_login: bool = True) -> Any:
        await asyncio.sleep(0)  # Let the previous jobs enter the queue.
        requester = Requester(ip, uuid5(NAMESPACE_URL, account))
        job = self._queue.run(self._work(name), requester, is_login=is_login)
        task = asyncio.create_task(job, name=name)
        self._tasks.append(task)
        await asyncio.sleep(0)
        return task

    def _work(self, name: str) -> Callable[[], Any]:
        return lambda: self.order.append(name)

    async def run(self) -> list[str]:
        """Free the thread, and return the names of the jobs in the order in which they ran."""
        self._gate.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return self.order

    async def rejected(self) -> Counter[str]:
        """Run the jobs, and count the rejected jobs by name."""
        await self.run()
        rejected = (t for t in self._tasks if not t.cancelled() and t.exception() is not None)
        return Counter(task.get_name() for task in rejected)


@pytest.fixture
async def jobs(queue: HashQueue, gate: threading.Event) -> Jobs:
    return Jobs(queue, gate)


async def test_jobs_of_one_requester_run_in_order(jobs: Jobs) -> None:
    for number in range(5):
        await jobs.add(str(number), "ip", "account")
    assert await jobs.run() == ["0", "1", "2", "3", "4"]


async def test_logins_and_other_jobs_take_turns(jobs: Jobs) -> None:
    for number in range(4):
        await jobs.add("other", f"ip{number}", f"account{number}", is_login=False)
    await jobs.add("login", "ip", "account")
    await jobs.add("login", "ip", "account")
    assert (await jobs.run())[:4] == ["login", "other", "login", "other"]


async def test_other_jobs_take_no_place_of_logins_when_their_queue_is_full(jobs: Jobs) -> None:
    for number in range(QUEUE_SIZE + 3):
        await jobs.add("other", f"ip{number}", f"account{number}", is_login=False)
    for _ in range(QUEUE_SIZE):
        await jobs.add("login", "ip", "account")
    assert await jobs.rejected() == {"other": 3}


@pytest.mark.parametrize(
    ("ips", "accounts"),
    [(1, 1), (1, QUEUE_SIZE), (QUEUE_SIZE, 1), (3, 3)],
    ids=["one IP, one account", "one IP, many accounts", "many IPs, one account", "some of both"],
)
@pytest.mark.parametrize("is_login", [True, False])
async def test_flood_takes_turns_with_a_new_requester(
    jobs: Jobs, ips: int, accounts: int, is_login: bool
) -> None:
    for number in range(QUEUE_SIZE - 1):
        ip, account = f"ip{number % ips}", f"account{number // ips % accounts}"
        await jobs.add("flood", ip, account, is_login=is_login)
    await jobs.add("other", "another ip", "another account", is_login=is_login)
    order = await jobs.run()
    # Before the new requester, each group of the flood has one turn.
    assert order.index("other") <= min(ips, accounts) * 2
    assert len(order) == QUEUE_SIZE


async def test_flood_of_one_account_takes_turns_with_accounts_at_the_same_ip(jobs: Jobs) -> None:
    await jobs.add("other", "ip", "before")
    for _ in range(QUEUE_SIZE - 2):
        await jobs.add("flood", "ip", "account")
    await jobs.add("other", "ip", "after")
    order = await jobs.run()
    assert [n for n, name in enumerate(order) if name == "other"] == [0, 2]


@pytest.mark.parametrize(
    ("ips", "accounts"),
    [(1, 1), (1, 50), (50, 1), (3, 3)],
    ids=["one IP, one account", "one IP, many accounts", "many IPs, one account", "some of both"],
)
async def test_flood_loses_a_place_to_each_new_requester_when_the_queue_is_full(
    jobs: Jobs, ips: int, accounts: int
) -> None:
    for number in range(50):
        await jobs.add("flood", f"ip{number % ips}", f"account{number // ips % accounts}")
    for number in range(5):
        await jobs.add("other", f"other ip{number}", f"other account{number}")
    assert await jobs.rejected() == {"flood": 50 - QUEUE_SIZE + 5}
    assert jobs.order.count("other") == 5


async def test_ip_that_fills_the_queue_gives_a_place_to_its_other_accounts(jobs: Jobs) -> None:
    for _ in range(QUEUE_SIZE + 1):
        await jobs.add("flood", "ip", "account")
    await jobs.add("other", "ip", "another account")
    assert await jobs.rejected() == {"flood": 2}


async def test_new_job_is_rejected_when_no_requester_has_more_jobs(jobs: Jobs) -> None:
    for number in range(QUEUE_SIZE):
        await jobs.add("first", f"ip{number}", f"account{number}")
    await jobs.add("newcomer", "another ip", "another account")
    assert await jobs.rejected() == {"newcomer": 1}


async def test_waiting_job_leaves_the_queue_when_its_caller_is_cancelled(
    queue: HashQueue, jobs: Jobs
) -> None:
    cancelled = [await jobs.add("cancelled", "ip", "account") for _ in range(QUEUE_SIZE)]
    for task in cancelled[::2]:
        task.cancel()
    await until(lambda: len(queue.logins) == QUEUE_SIZE // 2)
    # Cancel one job just before another takes its place, and one just before its turn.
    cancelled[-1].cancel()
    cancelled[1].cancel()
    for _ in range(QUEUE_SIZE):
        await jobs.add("other", "another ip", "another account")
    order = await jobs.run()
    assert Counter(order)["cancelled"] == QUEUE_SIZE // 2 - 2
    assert len(queue.logins) == queue.running == 0
    assert queue.logins._counts == {} and queue.logins._groups == {}


async def test_running_job_occupies_its_thread_after_its_caller_is_cancelled(
    queue: HashQueue, gate: threading.Event
) -> None:
    started = threading.Event()

    def job() -> None:
        started.set()
        gate.wait()

    running = asyncio.create_task(queue.run(job, REQUESTER, is_login=True))
    await until(started.is_set)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    waiting = [
        asyncio.create_task(queue.run(lambda: None, REQUESTER, is_login=True))
        for _ in range(QUEUE_SIZE)
    ]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await queue.run(lambda: None, REQUESTER, is_login=True)
    assert queue.running == 1
    gate.set()
    await asyncio.gather(*waiting)
    await until(lambda: not queue.running)


async def test_exception_of_a_job_reaches_its_caller_and_frees_the_thread(queue: HashQueue) -> None:
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await queue.run(fail, REQUESTER, is_login=True)
    assert await queue.run(lambda: 7, REQUESTER, is_login=False) == 7


async def test_close_cancels_waiting_jobs(queue: HashQueue, jobs: Jobs) -> None:
    waiting = [await jobs.add("a", "ip", "account", is_login=n % 2 == 0) for n in range(4)]
    queue.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 4


async def test_at_most_one_job_runs_on_each_thread(gate: threading.Event) -> None:
    queue = HashQueue(3, QUEUE_SIZE, lambda: None)
    tasks = [
        asyncio.create_task(queue.run(gate.wait, REQUESTER, is_login=True))
        for _ in range(QUEUE_SIZE)
    ]
    await asyncio.sleep(0)
    assert (queue.running, len(queue.logins)) == (3, QUEUE_SIZE - 3)
    gate.set()
    assert await asyncio.gather(*tasks) == [True] * QUEUE_SIZE
    assert (queue.running, len(queue.logins)) == (0, 0)
    queue.close()
