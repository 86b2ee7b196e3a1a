"""Parent process: bind the port, start the embedded server, fork the workers and replace them.

The parent has no event loop and no threads. It waits for signals; the kernel reports every exit of
a child process as one (SIGCHLD). Between signals the parent checks the heartbeats of the workers.
``docs/decisions/supervisor.md`` says why the service has its own supervisor.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.embedded_postgres.server import EmbeddedServer
from service.heartbeats import HEARTBEAT_INTERVAL, Heartbeats, exit_with_parent
from service.listening_sockets import StartError, bind
from service.preparation import addresses, load, open_metrics, run_migration
from service.reload import Check, Handover
from service.settings.settings import Settings
from service.signals import (
    INTERRUPTS,
    STOP_SIGNALS,
    block_signals,
    has_terminal,
    interruptible,
    next_signal,
)

if TYPE_CHECKING:
    from service.metrics.metrics import Metrics

logger = logging.getLogger(__name__)

CRASH_LOOP_SECONDS = 1.0  # Wait this long before replacing a worker that ran for less than this.
KILL_DELAY = 5.0  # Seconds after the drain until a worker that still runs is killed.
POLL_INTERVAL = 0.02  # Seconds between two checks whether the workers have exited.
TAKE_OVER_TIMEOUT = 60.0  # Seconds for the new workers of a reload to become ready.


class Supervisor:
    """Run the service until a signal stops it."""

    def __init__(self, settings: Settings, handover: Handover | None = None) -> None:
        """With ``handover``, take over from the version that ran in this process before."""
        self._settings = settings
        self._handover = handover
        self._embedded: EmbeddedServer | None = None
        self._database_url = settings.database_url or ""
        self._sockets: list[socket.socket] = []
        self._workers: dict[int, tuple[int, float]] = {}  # pid -> (index, start time)
        self._heartbeats = Heartbeats(settings.web_concurrency)
        self._metrics_socket: socket.socket | None = None
        self._metrics: Metrics | None = None
        self._migration = 0  # The pid of the child that migrates.
        self._retiring: dict[int, float] = {}  # pid -> time at which it is killed
        self._check: Check | None = None
        self._must_check_again = False
        self._has_terminal = has_terminal()

    def run(self) -> int:
        """Start the service, wait for SIGTERM or SIGINT, stop it, return the exit status.

        Raise ``StartError``, ``EmbeddedError`` or ``MigrationError`` if the service cannot start.
        """
        block_signals()
        try:
            with contextlib.suppress(KeyboardInterrupt):
                if self._handover is None:
                    self._start()
                else:
                    self._take_over(self._handover)
                self._watch()
            logger.info("Stopping")
            return 0
        finally:
            self._stop()

    def _start(self) -> None:
        settings = self._settings
        with interruptible(INTERRUPTS):
            self._sockets = bind(settings.host, settings.port, settings.web_concurrency)
            if settings.metrics_port is not None:
                (self._metrics_socket,) = bind(
                    settings.metrics_host, settings.metrics_port, 1, prefix="METRICS_"
                )
            if settings.embedded:
                self._embedded = EmbeddedServer(settings.data_dir, logger.info)
                self._database_url = self._embedded.launch()
            self._migrate_and_load()
            for name, url in settings.callback_urls.items():
                logger.info("identity provider: name=%s callback_url=%s", name, url)
            if not settings.embedded and settings.smtp_url is None:
                logger.warning("mails are printed, SMTP_URL is not set")
        if self._start_workers():
            self._announce()

    def _take_over(self, handover: Handover) -> None:
        """Start workers beside those of the former version, then let those drain.

        Nothing is lost if that fails: the former workers go on, and the next reload tries again.
        """
        self._sockets = [socket.socket(fileno=descriptor) for descriptor in handover.sockets]
        for sock in self._sockets:
            sock.set_inheritable(False)
        if handover.metrics_socket is not None:
            self._metrics_socket = socket.socket(fileno=handover.metrics_socket)
            self._metrics_socket.set_inheritable(False)
        if handover.embedded is not None:
            self._embedded = EmbeddedServer.adopt(
                self._settings.data_dir, logger.info, handover.embedded
            )
            self._database_url = handover.embedded.dsn
        self._retiring = handover.retiring
        now = time.monotonic()
        count = self._settings.web_concurrency
        self._workers = {pid: (index % count, now) for pid, index in handover.workers.items()}
        former = set(self._workers)
        try:
            with interruptible(INTERRUPTS):
                self._metrics = open_metrics(self._settings, self._metrics_socket)
                self._app = load(self._settings, self._database_url, self._metrics)
            is_ready = self._start_workers(TAKE_OVER_TIMEOUT)
        except Exception:
            logger.exception("reload failed, the former workers go on")
            is_ready = False
        if not is_ready:
            # A scrape of a new worker would print other values than one of the former workers.
            self._metrics = None
        replaced = former if is_ready else self._workers.keys() - former
        for pid in replaced:
            self._retire(pid)
        if is_ready:
            logger.info("reloaded: workers=%d", self._settings.web_concurrency)
        else:
            logger.error("reload failed, the former workers go on: error=no worker became ready")

    def _start_workers(self, timeout: float | None = None) -> bool:
        """Start all workers. Return whether they became ready within ``timeout`` seconds."""
        count = self._settings.web_concurrency
        with _ready_pipe() as (ready, ready_writer):
            for index in range(count):
                self._start_worker(index, ready_writer)
            os.close(ready_writer)
            with interruptible(INTERRUPTS):
                return _wait_until_ready(ready, count, timeout)

    def _migrate_and_load(self) -> None:
        """Migrate the database in a child process, and load the application meanwhile.

        The child alone needs the library for migrations, which takes some 12 MB. The embedded
        server starts meanwhile, too, and the child waits for it by itself. Raise ``StartError``
        with the message of the child, ``EmbeddedError`` and ``TemplateError``.
        """
        embedded = self._embedded
        wait_for_server = embedded.readiness() if embedded is not None else None
        parent = os.getpid()
        message, message_writer = os.pipe()
        sys.stdout.flush()
        self._migration = os.fork()
        if not self._migration:
            status = 1
            try:
                exit_with_parent(parent)
                if embedded is not None:
                    embedded.detach()
                status = run_migration(
                    self._settings, self._database_url, message_writer, wait_for_server
                )
            except KeyboardInterrupt:
                status = 0  # The parent is interrupted, too.
            except BaseException:
                logger.exception("migration failed")
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.close(message_writer)
        with os.fdopen(message, encoding="utf-8") as messages:
            self._metrics = open_metrics(self._settings, self._metrics_socket)
            self._app = load(self._settings, self._database_url, self._metrics)
            if embedded is not None:
                embedded.wait_until_ready()
            error = messages.read()
        _, status = os.waitpid(self._migration, 0)
        self._migration = 0
        if status:
            raise StartError(error or "The migration of the database has failed.")

    def _announce(self) -> None:
        url = self._settings.local_url
        logger.info("Listening on %s", url)
        if self._metrics is not None:
            logger.info("Metrics on %s", self._settings.metrics_url)
        if sys.stdout.isatty():
            print(f"Documentation: {url}/docs\nPress Ctrl+C to stop.", flush=True)

    def _start_worker(self, index: int, ready_writer: int | None = None) -> None:
        parent = os.getpid()
        self._heartbeats.reset(index)
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self._workers[pid] = (index, time.monotonic())
            return
        status = 1
        try:
            exit_with_parent(parent)
            if self._embedded is not None:
                self._embedded.detach()
            served = self._sockets_of(index)
            for sock in self._sockets:
                if sock not in served:
                    sock.close()
            from service.worker import run_worker

            status = run_worker(
                self._app,
                self._settings.shutdown_timeout,
                served,
                ready_writer,
                self._heartbeats,
                index,
                self._metrics,
            )
        except BaseException:
            logger.exception("worker failed")
        finally:
            sys.stdout.flush()
            os._exit(status)

    def _sockets_of(self, index: int) -> list[socket.socket]:
        """Return the sockets on which the worker at ``index`` accepts connections.

        After a reload there may be more or fewer workers than sockets. A socket that no worker
        served would keep the connections that the kernel gives it waiting.
        """
        served = self._sockets[index :: self._settings.web_concurrency]
        return served or [self._sockets[index % len(self._sockets)]]

    def _watch(self) -> None:
        """Replace workers that exit or hang, restart PostgreSQL, reload, until a signal to stop."""
        awaited = {number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
        next_check = time.monotonic() + HEARTBEAT_INTERVAL
        while True:
            number = next_signal(awaited | {signal.SIGCHLD}, next_check - time.monotonic())
            if number == signal.SIGHUP and not self._is_hung_up():
                self._reload()
            elif number in awaited:
                return
            elif number == signal.SIGCHLD:
                self._handle_exits()
            if time.monotonic() >= next_check:
                self._kill_silent_workers()
                next_check = time.monotonic() + HEARTBEAT_INTERVAL

    def _is_hung_up(self) -> bool:
        """Return whether SIGHUP means what its name says: the terminal was closed."""
        return self._has_terminal and not has_terminal()

    def _reload(self) -> None:
        """Check the new version in a child process. ``_handle_exits`` continues."""
        if self._check is not None:
            # The files may have changed since that check has read them.
            self._must_check_again = True
            return
        logger.info("reloading: checking the new version and its settings")
        try:
            self._check = Check(self._hand_over())
        except OSError as error:
            logger.error("reload failed, the running version goes on: error=%s", error)

    def _finish_check(self, check: Check, status: int) -> None:
        error = check.error(status)
        self._check = None
        if self._must_check_again:
            self._must_check_again = False
            self._reload()
        elif error is None:
            self._hand_over().execute()
        else:
            logger.error("reload failed, the running version goes on: error=%s", error)

    def _hand_over(self) -> Handover:
        return Handover(
            addresses(self._settings),
            self._metrics_socket.fileno() if self._metrics_socket is not None else None,
            [sock.fileno() for sock in self._sockets],
            {pid: index for pid, (index, _) in self._workers.items()},
            self._retiring,
            self._embedded.inheritance() if self._embedded is not None else None,
        )

    def _retire(self, pid: int) -> None:
        """Let a worker finish its requests, and its clients leave, before it exits."""
        del self._workers[pid]
        self._retiring[pid] = time.monotonic() + self._settings.shutdown_timeout + KILL_DELAY
        _signal(pid, signal.SIGUSR1)

    def _handle_exits(self) -> None:
        for pid, status in _reap():
            if pid in self._workers:
                self._replace_worker(pid)
            elif self._retiring.pop(pid, None) is not None:
                continue
            elif self._check is not None and pid == self._check.pid:
                self._finish_check(self._check, status)
            elif self._embedded is not None and pid == self._embedded.pid:
                logger.error("embedded postgresql exited, starting it again: pid=%d", pid)
                with interruptible(INTERRUPTS):
                    self._embedded.restart()

    def _kill_silent_workers(self) -> None:
        """Kill the workers that hang. The SIGCHLD that follows leads to their replacement."""
        hanging = self._heartbeats.find_hanging()
        for pid, (index, _) in self._workers.items():
            if index in hanging:
                logger.error("worker sends no heartbeats, killing it: pid=%d", pid)
                _signal(pid, signal.SIGKILL)
                if self._metrics is not None:
                    self._metrics.note_hang()
        now = time.monotonic()
        late = [pid for pid, deadline in self._retiring.items() if now > deadline]
        if self._check is not None and now > self._check.deadline:
            late.append(self._check.pid)
        for pid in late:
            _signal(pid, signal.SIGKILL)

    def _replace_worker(self, pid: int) -> None:
        index, started = self._workers.pop(pid)
        logger.error("worker exited, starting another: pid=%d", pid)
        if self._metrics is not None:
            self._metrics.note_exit(index)
        # If each new worker crashes as it starts, the parent must not fork without a pause.
        if time.monotonic() - started < CRASH_LOOP_SECONDS:
            with interruptible(INTERRUPTS):
                time.sleep(CRASH_LOOP_SECONDS)
        self._start_worker(index)

    def _stop(self) -> None:
        """Stop the workers, kill those that do not exit in time, then stop the embedded server."""
        # Reject new connections. No worker would serve them if they waited in the accept queue.
        for sock in self._sockets:
            sock.close()
        if self._metrics_socket is not None:
            self._metrics_socket.close()
        if self._migration:
            # PostgreSQL rolls an interrupted migration back.
            _signal(self._migration, signal.SIGKILL)
        if self._check is not None:
            _signal(self._check.pid, signal.SIGKILL)
        running = {*self._workers, *self._retiring}
        for pid in running:
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + self._settings.shutdown_timeout + KILL_DELAY
        while running and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
            running -= {pid for pid, _ in _reap()}
        for pid in running:
            _signal(pid, signal.SIGKILL)
        if self._embedded is not None:
            self._embedded.stop()


@contextlib.contextmanager
def _ready_pipe() -> Iterator[tuple[int, int]]:
    ready, ready_writer = os.pipe()
    try:
        yield ready, ready_writer
    finally:
        os.close(ready)


def _wait_until_ready(ready: int, count: int, timeout: float | None) -> bool:
    """Wait for ``count`` workers, each at most ``timeout`` seconds after the one before.

    Return ``False`` if one of them exited before it was ready.
    """
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    milliseconds = None if timeout is None else timeout * 1000
    return all(poll.poll(milliseconds) and os.read(ready, 1) for _ in range(count))


def _reap() -> Iterator[tuple[int, int]]:
    """Reap the children that exited and yield their process ids and statuses."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
