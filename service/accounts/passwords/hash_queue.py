"""Threads that hash passwords, with two bounded, fair queues in front of them.

The queues guarantee:

- Logins wait in one queue, all other hashes (registrations, password changes, rehashes) in another.
  Both queues have the same size and take turns, so logins can always use half of the capacity.
- Within a queue the IP addresses and the accounts take turns: see ``FairQueue``.
- When a queue is full, a new job replaces the newest job of the requester with the most waiting
  jobs. The new job itself is rejected only when no requester has more waiting jobs than its own.
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

_Result = TypeVar("_Result")


class QueueFull(Exception):
    """The queue has no place for a job.

    The job was rejected immediately, or it lost its place to a requester with fewer waiting jobs.
    """


class Requester(NamedTuple):
    """The keys that a job is counted under: an IP address or network, and an account.

    An email without a user needs an id of its own. Otherwise the waiting time of a job would reveal
    whether the account exists.
    """

    ip_key: str
    account_id: UUID


_Key = str | UUID


@dataclass(eq=False, slots=True)
class Job:
    """Work for a thread, and the future that receives its result."""

    work: Callable[[], Any]
    requester: Requester
    future: asyncio.Future[Any]
    path: tuple[_Key, _Key] | None = None
    """The two keys under which the job waits in its queue. ``None`` after it has left the queue."""


class FairQueue:
    """Hold at most ``size`` waiting jobs. The requesters take turns, one job at each turn.

    A job joins the group of its IP address, or the group of its account if more jobs of the account
    are waiting. So one IP address with many accounts is one group, and one account with many IP
    addresses is one group.

    The groups take turns. Within the group of an IP address its accounts take turns: clients behind
    one NAT do not wait for the busiest account among them. Within the group of an account its IP
    addresses take turns.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._groups: OrderedDict[_Key, OrderedDict[_Key, deque[Job]]] = OrderedDict()
        self._counts: Counter[_Key] = Counter()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, job: Job) -> Job | None:
        """Add ``job``. If the queue was full, drop one job and return it.

        The dropped job can be ``job`` itself.
        """
        ip, account = job.requester
        job.path = (account, ip) if self._counts[account] > self._counts[ip] else (ip, account)
        group = self._groups.setdefault(job.path[0], OrderedDict())
        group.setdefault(job.path[1], deque()).append(job)
        self._counts.update((ip, account))
        self._waiting += 1
        return self._drop(job.path) if self._waiting > self._size else None

    def take(self) -> Job:
        """Remove and return the job whose turn it is."""
        first, group = next(iter(self._groups.items()))
        second, jobs = next(iter(group.items()))
        job = jobs[0]
        self._groups.move_to_end(first)
        group.move_to_end(second)
        self.discard(job)
        return job

    def discard(self, job: Job) -> None:
        """Remove ``job`` if it waits in this queue."""
        if job.path is None:
            return
        first, second = job.path
        group = self._groups[first]
        group[second].remove(job)
        if not group[second]:
            del group[second]
        if not group:
            del self._groups[first]
        for key in job.requester:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
        self._waiting -= 1
        job.path = None

    def _drop(self, newcomer: tuple[_Key, _Key]) -> Job:
        """Remove and return the newest job of the requester with the most waiting jobs.

        If several requesters have equally many, prefer ``newcomer``, the path of the new job.
        """
        first = max(
            self._groups,
            key=lambda key: (sum(map(len, self._groups[key].values())), key == newcomer[0]),
        )
        group = self._groups[first]
        second = max(group, key=lambda key: (len(group[key]), key == newcomer[1]))
        job = group[second][-1]
        self.discard(job)
        return job


class HashQueue:
    """Run jobs on ``threads`` threads. At most ``size`` logins and ``size`` other jobs wait."""

    def __init__(self, threads: int, size: int, initializer: Callable[[], None]) -> None:
        """Create the queue. ``initializer`` runs once in each thread."""
        self.threads = threads
        self.running = 0
        """The number of jobs in threads, including jobs whose caller was cancelled."""
        self.logins, self.others = FairQueue(size), FairQueue(size)
        # The next job comes from the first queue that has one, which then moves to the end.
        self._queues = deque((self.logins, self.others))
        self._executor = ThreadPoolExecutor(threads, "password", initializer=initializer)

    def close(self) -> None:
        """Cancel the waiting jobs and let the running jobs finish."""
        for queue in self._queues:
            while queue:
                queue.take().future.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def run(
        self, work: Callable[[], _Result], requester: Requester, *, is_login: bool
    ) -> _Result:
        """Run ``work`` in a thread and return its result.

        When the caller is cancelled, its waiting job leaves the queue. Raise ``QueueFull`` when the
        job is rejected or loses its place, and the exception that ``work`` raises.
        """
        job = Job(work, requester, asyncio.get_running_loop().create_future())
        queue = self.logins if is_login else self.others
        if self.running < self.threads:
            self._start(job)
        elif (dropped := queue.add(job)) is not None and not dropped.future.done():
            dropped.future.set_exception(QueueFull())
        try:
            result: _Result = await job.future
        finally:
            queue.discard(job)
        return result

    def _start(self, job: Job) -> None:
        self.running += 1
        loop = asyncio.get_running_loop()
        # The executor's own queue stays empty: it never gets more jobs than it has threads.
        in_thread = self._executor.submit(job.work)
        in_thread.add_done_callback(lambda done: _call(loop, lambda: self._finish(job, done)))

    def _finish(self, job: Job, done: Future[Any]) -> None:
        self.running -= 1
        if done.cancelled():
            job.future.cancel()
        elif not job.future.done():  # The caller may be cancelled.
            if (error := done.exception()) is not None:
                job.future.set_exception(error)
            else:
                job.future.set_result(done.result())
        self._start_next()

    def _start_next(self) -> None:
        while self.running < self.threads and (queue := next(filter(len, self._queues), None)):
            self._queues.remove(queue)
            self._queues.append(queue)
            job = queue.take()
            if not job.future.done():  # Cancelled, but not yet discarded.
                self._start(job)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # The event loop was closed before the hash was ready.
        loop.call_soon_threadsafe(function)
