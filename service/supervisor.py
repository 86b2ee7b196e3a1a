"""The parent process: owns the port and the embedded server, forks the workers, keeps all alive.

It runs no event loop and no thread. It waits for signals, and every change of its children is one.
Between them it looks whether the workers still send heartbeats.
"""

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType

from service.app import create_app
from service.database.connection_limit import warn_of_connection_limit
from service.database.migrate import migrate
from service.embedded_postgres.server import EmbeddedServer
from service.http.connections import raise_descriptor_limit
from service.settings.settings import Settings
from service.worker import HEARTBEAT_INTERVAL, Heartbeats, exit_with_parent, run_worker

logger = logging.getLogger(__name__)

STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM}
INTERRUPT_RETRY = 0.05  # Seconds until an interruption that went astray is tried again.
PORT_WAIT = 2.0  # Seconds that a port may still be held by a service that is just ending.
CRASH_LOOP_SECONDS = 1.0  # Seconds: a worker that lives shorter is not started again at once.
KILL_AFTER = 5.0  # Seconds beyond the drain that a worker is given to end by itself.
POLL = 0.02  # Seconds between two looks whether the workers have ended.


class StartError(Exception):
    """The service cannot start; the message is one sentence."""


class Supervisor:
    """Runs the service until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded: EmbeddedServer | None = None
        self._database_url = settings.database_url or ""
        self._sockets: list[socket.socket] = []
        self._workers: dict[int, tuple[int, float]] = {}  # pid -> (place, started at)
        self._heartbeats = Heartbeats(settings.web_concurrency)

    def run(self) -> int:
        """Start everything, serve until SIGTERM, SIGINT or SIGHUP, stop; return the exit status.

        Raises ``StartError``, ``EmbeddedError`` and ``MigrationError`` when it cannot start.
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
        raise_descriptor_limit()
        with interruptible():
            self._sockets = _bind(settings.host, settings.port, settings.web_concurrency)
            if settings.embedded:
                self._embedded = EmbeddedServer(settings.data_dir, logger.info)
                self._database_url = self._embedded.start()
            migrate(self._database_url, logger.info)
            warn_of_connection_limit(settings, self._database_url)
        with _ready_pipe() as (ready, tell):
            for place in range(settings.web_concurrency):
                self._start_worker(place, tell)
            os.close(tell)
            with interruptible():
                if _wait_until_ready(ready, settings.web_concurrency):
                    self._announce()

    def _announce(self) -> None:
        host = self._settings.host
        shown = "localhost" if host in ("0.0.0.0", "::", "") else host  # noqa: S104
        shown = f"[{shown}]" if ":" in shown else shown
        app = create_app(self._settings, self._database_url)
        endpoints = [
            f"  {route.method:<7} {route.resource.canonical}"
            for route in app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        ]
        logger.info(
            "Listening on http://%s:%s\n%s", shown, self._settings.port, "\n".join(endpoints)
        )

    def _start_worker(self, place: int, tell: int | None = None) -> None:
        parent = os.getpid()
        self._heartbeats.reset(place)
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self._workers[pid] = (place, time.monotonic())
            return
        status = 1
        try:
            exit_with_parent(parent)
            if self._embedded is not None:
                self._embedded.detach()
            for other, sock in enumerate(self._sockets):
                if other != place:
                    sock.close()
            sock = self._sockets[place]
            status = run_worker(
                self._settings, self._database_url, sock, tell, self._heartbeats, place
            )
        except BaseException:
            logger.exception("a worker failed")
        finally:
            sys.stdout.flush()
            os._exit(status)

    def _watch(self) -> None:
        """Deal with what happens until it is time to stop."""
        awaited = {number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN}
        next_look = time.monotonic() + HEARTBEAT_INTERVAL
        while True:
            number = _next_signal(awaited | {signal.SIGCHLD}, next_look - time.monotonic())
            if number in awaited:
                return
            if number == signal.SIGCHLD:
                self._replace_ended()
            if time.monotonic() >= next_look:
                self._kill_silent_workers()
                next_look = time.monotonic() + HEARTBEAT_INTERVAL

    def _replace_ended(self) -> None:
        for pid in _reap():
            if pid in self._workers:
                self._replace(pid)
            elif self._embedded is not None and pid == self._embedded.pid:
                logger.error("The embedded database ended; starting it again")
                with interruptible():
                    self._embedded.restart()

    def _kill_silent_workers(self) -> None:
        """Kill the workers that hang: their end is a signal, on which they are replaced."""
        hanging = self._heartbeats.look()
        for pid, (place, _) in self._workers.items():
            if place in hanging:
                logger.error("killing a worker that sends no heartbeats: pid=%d", pid)
                _signal(pid, signal.SIGKILL)

    def _replace(self, pid: int) -> None:
        place, started = self._workers.pop(pid)
        logger.error("A worker (process %s) ended; starting another", pid)
        # A worker that cannot live must not become a storm of forks.
        if time.monotonic() - started < CRASH_LOOP_SECONDS:
            with interruptible():
                time.sleep(CRASH_LOOP_SECONDS)
        self._start_worker(place)

    def _stop(self) -> None:
        """End the workers, killing those that don't, then the embedded server."""
        # New clients are turned away rather than left in a queue that nobody serves any more.
        for sock in self._sockets:
            sock.close()
        for pid in self._workers:
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + self._settings.shutdown_timeout + KILL_AFTER
        while self._workers and time.monotonic() < deadline:
            time.sleep(POLL)
            for pid in _reap():
                self._workers.pop(pid, None)
        for pid in self._workers:
            _signal(pid, signal.SIGKILL)
        if self._embedded is not None:
            self._embedded.stop()


def block_signals() -> None:
    """Block the signals to stop, so that none is lost between two looks.

    What takes its time runs inside ``interruptible``, which lets them in.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING | {signal.SIGCHLD})
    for number in STOPPING:
        ignored = signal.getsignal(number) == signal.SIG_IGN
        if not (ignored and number == signal.SIGHUP):  # Ignored: it was started by nohup.
            signal.signal(number, _interrupt)
    sys.unraisablehook = _interrupt_again


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let a signal to stop end what is done inside, with a ``KeyboardInterrupt``."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: what is cleaned up from here on must not be interrupted in turn.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    raise KeyboardInterrupt


def _interrupt_again(dropped: "sys.UnraisableHookArgs") -> None:
    # Python drops what is raised in a finalizer or around a fork: it is raised anew, a bit later.
    if dropped.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(dropped)
        return
    signal.setitimer(signal.ITIMER_REAL, INTERRUPT_RETRY)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


def _next_signal(awaited: set[signal.Signals], timeout: float) -> int | None:
    """Wait for one of the blocked signals ``awaited``; ``None`` after ``timeout`` seconds."""
    if sys.platform == "darwin":  # It has no sigtimedwait: workers that hang are not found there.
        return signal.sigwait(awaited)
    received = signal.sigtimedwait(awaited, max(0.0, timeout))
    return received.si_signo if received is not None else None


def _bind(host: str, port: int, count: int) -> list[socket.socket]:
    """One socket for each worker, all on one port: the kernel spreads the connections."""
    deadline = time.monotonic() + PORT_WAIT
    while True:
        try:
            # The first try is without SO_REUSEPORT, which would share the port with a stranger.
            _socket(host, port, shared=False).close()
            return [_socket(host, port, shared=count > 1) for _ in range(count)]
        except (socket.gaierror, UnicodeError):
            raise StartError(f"HOST {host} is not an address of this machine.") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            reasons = {
                errno.EADDRINUSE: f"Port {port} is taken: stop what listens there, or set PORT.",
                errno.EACCES: f"Port {port} needs more rights than this user has; set PORT.",
                errno.EADDRNOTAVAIL: f"HOST {host} is not an address of this machine.",
            }
            sentence = reasons.get(error.errno or 0, f"Cannot listen: {error.strerror}.")
            raise StartError(sentence) from error


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
        # Without listening, a port bound with SO_REUSEADDR could still be bound by another.
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _ready_pipe() -> Iterator[tuple[int, int]]:
    ready, tell = os.pipe()
    try:
        yield ready, tell
    finally:
        os.close(ready)


def _wait_until_ready(ready: int, count: int) -> bool:
    """Whether every worker said that it serves; not, when one ended before."""
    return all(os.read(ready, 1) for _ in range(count))


def _reap() -> Iterator[int]:
    """The ids of the children that ended."""
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
