"""Parent process: bind the port, start the embedded server, fork the workers and replace them.

The parent has no event loop and no threads. It waits for signals; the kernel reports every exit of
a child process as one (SIGCHLD). Between signals the parent checks the heartbeats of the workers.
``docs/decisions/supervisor.md`` says why the service has its own supervisor.
"""

import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING

from service.embedded_postgres.server import EmbeddedServer
from service.heartbeats import HEARTBEAT_INTERVAL, Heartbeats, exit_with_parent
from service.settings.settings import Settings

if TYPE_CHECKING:
    from aiohttp import web

    from service.metrics.metrics import Metrics

logger = logging.getLogger(__name__)

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM}
INTERRUPT_RETRY = 0.05  # Seconds until a dropped ``KeyboardInterrupt`` is raised again.
PORT_TIMEOUT = 2.0  # Seconds to wait until a service that is stopping releases the port.
CRASH_LOOP_SECONDS = 1.0  # Wait this long before replacing a worker that ran for less than this.
KILL_DELAY = 5.0  # Seconds after the drain until a worker that still runs is killed.
POLL_INTERVAL = 0.02  # Seconds between two checks whether the workers have exited.


class StartError(Exception):
    """The service cannot start. The message is one sentence."""

    exit_status = 1


class Supervisor:
    """Run the service until a signal stops it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded: EmbeddedServer | None = None
        self._database_url = settings.database_url or ""
        self._sockets: list[socket.socket] = []
        self._workers: dict[int, tuple[int, float]] = {}  # pid -> (index, start time)
        self._heartbeats = Heartbeats(settings.web_concurrency)
        self._metrics_socket: socket.socket | None = None
        self._metrics: Metrics | None = None
        self._migration = 0  # The pid of the child that migrates.

    def run(self) -> int:
        """Start the service, wait for SIGTERM, SIGINT or SIGHUP, stop it, return the exit status.

        Raise ``StartError``, ``EmbeddedError`` or ``MigrationError`` if the service cannot start.
        """
        block_signals()
        try:
            with contextlib.suppress(KeyboardInterrupt):
                self._start()
                self._watch()
            logger.info("Stopping")
            return 0
        finally:
            self._stop()

    def _start(self) -> None:
        settings = self._settings
        with interruptible():
            self._sockets = _bind(settings.host, settings.port, settings.web_concurrency)
            if settings.metrics_port is not None:
                (self._metrics_socket,) = _bind(
                    settings.metrics_host, settings.metrics_port, 1, prefix="METRICS_"
                )
            if settings.embedded:
                self._embedded = EmbeddedServer(settings.data_dir, logger.info)
                self._database_url = self._embedded.start()
            self._migrate_and_load()
            for name, url in settings.callback_urls.items():
                logger.info("identity provider: name=%s callback_url=%s", name, url)
            if not settings.embedded and settings.smtp_url is None:
                logger.warning("mails are printed, SMTP_URL is not set")
        # The workers share the memory of what is loaded. A collection in a worker writes to every
        # object that is not frozen, and the kernel then copies its page.
        gc.collect()
        gc.freeze()
        with _ready_pipe() as (ready, ready_writer):
            for index in range(settings.web_concurrency):
                self._start_worker(index, ready_writer)
            os.close(ready_writer)
            with interruptible():
                if _wait_until_ready(ready, settings.web_concurrency):
                    self._announce()

    def _migrate_and_load(self) -> None:
        """Migrate the database in a child process, and load the application meanwhile.

        The child alone needs the library for migrations, which takes some 12 MB. Raise
        ``StartError`` with the message of the child, and ``TemplateError``.
        """
        parent = os.getpid()
        message, message_writer = os.pipe()
        sys.stdout.flush()
        self._migration = os.fork()
        if not self._migration:
            status = 1
            try:
                exit_with_parent(parent)
                if self._embedded is not None:
                    self._embedded.detach()
                status = _migrate(self._settings, self._database_url, message_writer)
            except KeyboardInterrupt:
                status = 0  # The parent is interrupted, too.
            except BaseException:
                logger.exception("migration failed")
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.close(message_writer)
        with os.fdopen(message, encoding="utf-8") as messages:
            # The objects of the application are permanent: looking for garbage is in vain.
            gc.disable()
            self._metrics = _open_metrics(self._settings, self._metrics_socket)
            self._app = _load(self._settings, self._database_url, self._metrics)
            gc.enable()
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
            for other, sock in enumerate(self._sockets):
                if other != index:
                    sock.close()
            sock = self._sockets[index]
            from service.worker import run_worker

            status = run_worker(
                self._app,
                self._settings.shutdown_timeout,
                sock,
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

    def _watch(self) -> None:
        """Replace workers that exit or hang, and restart PostgreSQL, until a signal to stop."""
        awaited = {number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
        next_check = time.monotonic() + HEARTBEAT_INTERVAL
        while True:
            number = _next_signal(awaited | {signal.SIGCHLD}, next_check - time.monotonic())
            if number in awaited:
                return
            if number == signal.SIGCHLD:
                self._replace_exited()
            if time.monotonic() >= next_check:
                self._kill_silent_workers()
                next_check = time.monotonic() + HEARTBEAT_INTERVAL

    def _replace_exited(self) -> None:
        for pid in _reap():
            if pid in self._workers:
                self._replace_worker(pid)
            elif self._embedded is not None and pid == self._embedded.pid:
                logger.error("embedded postgresql exited, starting it again: pid=%d", pid)
                with interruptible():
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

    def _replace_worker(self, pid: int) -> None:
        index, started = self._workers.pop(pid)
        logger.error("worker exited, starting another: pid=%d", pid)
        if self._metrics is not None:
            self._metrics.note_exit(index)
        # If each new worker crashes as it starts, the parent must not fork without a pause.
        if time.monotonic() - started < CRASH_LOOP_SECONDS:
            with interruptible():
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
        for pid in self._workers:
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + self._settings.shutdown_timeout + KILL_DELAY
        while self._workers and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
            for pid in _reap():
                self._workers.pop(pid, None)
        for pid in self._workers:
            _signal(pid, signal.SIGKILL)
        if self._embedded is not None:
            self._embedded.stop()


def _migrate(settings: Settings, url: str, message: int) -> int:
    """Migrate the database. Return the exit status. Write the text of an error to ``message``."""
    from service.database.connection_limit import warn_of_connection_limit
    from service.database.migrate import MigrationError, migrate
    from service.database.pooler_check import check_pooler

    session_url = settings.session_database_url or url
    try:
        with interruptible():
            check_pooler(settings, logger.info)
            migrate(session_url, logger.info)
            warn_of_connection_limit(settings, session_url)
    except MigrationError as error:
        os.write(message, str(error).encode())
        return 1
    return 0


def _load(settings: Settings, database_url: str, metrics: "Metrics | None") -> "web.Application":
    """Return the application that every worker serves. Raise ``TemplateError``.

    It is created before the workers are forked, and runs in none but them: they share most of its
    memory.
    """
    from service.accounts.passwords.blocklist import load_blocklist
    from service.app import create_app
    from service.http.connections import raise_descriptor_limit

    import_module("service.worker")
    load_blocklist(settings)
    raise_descriptor_limit()
    log, parts = (metrics.request_log, metrics.parts) if metrics is not None else (None, None)
    return create_app(settings, database_url, log, parts)


def _open_metrics(settings: Settings, sock: socket.socket | None) -> "Metrics | None":
    """Return the metrics, or ``None`` without a socket. Nothing of them is loaded then."""
    if sock is None:
        return None
    from service.metrics.metrics import Metrics

    return Metrics(settings.web_concurrency, sock)


def block_signals() -> None:
    """Block the stop signals, so that none is lost between two waits for a signal.

    Run each slow step inside ``interruptible``, which unblocks them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS | {signal.SIGCHLD})
    for number in STOP_SIGNALS:
        ignored = signal.getsignal(number) == signal.SIG_IGN
        if not (ignored and number == signal.SIGHUP):  # Keep SIGHUP ignored for nohup.
            signal.signal(number, _interrupt)
    sys.unraisablehook = _interrupt_again


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Unblock the stop signals: one of them raises ``KeyboardInterrupt`` inside the block."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Interrupt only once: a second signal must not interrupt the cleanup.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    raise KeyboardInterrupt


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    # Python drops an exception that is raised in a finalizer or in a hook after a fork, so raise it
    # again a little later. docs/decisions/supervisor.md has the figures.
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return
    signal.setitimer(signal.ITIMER_REAL, INTERRUPT_RETRY)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


def _next_signal(awaited: set[signal.Signals], timeout: float) -> int | None:
    """Wait for a blocked signal in ``awaited``. Return ``None`` after ``timeout`` seconds."""
    if sys.platform == "darwin":  # No sigtimedwait on macOS, so no detection of hanging workers.
        return signal.sigwait(awaited)
    received = signal.sigtimedwait(awaited, max(0.0, timeout))
    return received.si_signo if received is not None else None


def _bind(host: str, port: int, count: int, *, prefix: str = "") -> list[socket.socket]:
    """Return ``count`` listening sockets, all on one port. The kernel balances connections.

    Retry for ``PORT_TIMEOUT`` seconds while the port is in use, then raise ``StartError``. The
    names of the settings begin with ``prefix``.
    """
    deadline = time.monotonic() + PORT_TIMEOUT
    while True:
        try:
            # First bind without SO_REUSEPORT, which would share the port with another program.
            _socket(host, port, shared=False).close()
            return [_socket(host, port, shared=count > 1) for _ in range(count)]
        except (socket.gaierror, UnicodeError):
            raise StartError(f"{prefix}HOST {host} is not an address of this machine.") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            reasons = {
                errno.EADDRINUSE: f"Port {port} is in use: stop that program, or set {prefix}PORT.",
                errno.EACCES: f"This user may not listen on port {port}: set {prefix}PORT.",
                errno.EADDRNOTAVAIL: f"{prefix}HOST {host} is not an address of this machine.",
            }
            reason = reasons.get(error.errno or 0, f"Cannot listen: {error.strerror}.")
            raise StartError(reason) from error


def _socket(host: str, port: int, *, shared: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        # Until a socket listens, another one with SO_REUSEADDR can bind the same port.
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _ready_pipe() -> Iterator[tuple[int, int]]:
    ready, ready_writer = os.pipe()
    try:
        yield ready, ready_writer
    finally:
        os.close(ready)


def _wait_until_ready(ready: int, count: int) -> bool:
    """Wait for ``count`` workers. Return ``False`` if one of them exited before it was ready."""
    return all(os.read(ready, 1) for _ in range(count))


def _reap() -> Iterator[int]:
    """Reap the children that exited and yield their process ids."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
