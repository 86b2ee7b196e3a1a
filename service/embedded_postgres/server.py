"""A private PostgreSQL for development, tests and single machines, run by the parent process.

``docs/decisions/embedded-server.md`` lists the guarantees and how they are kept. The parent has no
event loop and no threads. It starts the server, forks workers, and waits. Lifetimes:

- ``start`` acquires a lock next to the data folder and ``stop`` releases it. If the process that
  holds the lock dies, the kernel releases it.
- On Linux, PostgreSQL shuts down cleanly when the parent dies, even by SIGKILL. The kernel ties
  this to the *thread* that called ``start``, so that must be the main thread.
- A forked worker inherits the lock and must call ``detach``. Otherwise the lock would stay held
  until the last worker exits. Programs started with exec do not inherit the lock.
- A parent that executes another program calls ``inheritance`` before, and ``adopt`` in the new
  program. PostgreSQL runs on: the kernel keeps the process, its children and the locks.
- The parent may reap children with ``os.waitpid(-1, ...)``. When that returns ``pid``, PostgreSQL
  has exited: call ``restart`` or ``stop``. Both accept a child that has already been reaped.
  ``start`` runs other short-lived children, so the parent must not reap before ``start`` returns.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.embedded_postgres.files import (
    PORT,
    SOCKET_FOLDER,
    RuntimeDirectory,
    choose_owner,
    chown_tree,
    create_data_folder,
    create_runtime_directory,
    dsn_of,
    lock_run_directory,
    remove_leftovers,
)
from service.embedded_postgres.processes import (
    AdoptedProcess,
    EmbeddedError,
    EmbeddedInUse,
    Owner,
    cluster_name,
    data_argument,
    is_alive,
    is_ready,
    spawn_options,
    stop_process,
    wait_for_previous_server,
)

__all__ = ["EmbeddedError", "EmbeddedInUse", "EmbeddedServer", "Inheritance", "running_dsn"]

_logger = logging.getLogger(__name__)
_MAX_CONNECTIONS = 200
_POLL_SECONDS = 0.02
_READY_SECONDS = 120.0
_REPORT_AFTER_SECONDS = 3.0
_ORPHANED_LOCK_SECONDS = 10.0
_MAX_LOG_BYTES = 5_000_000
_NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Inheritance:
    """A running server, for the next program of the process that started it."""

    data_dir: str
    pid: int
    lock: int
    runtime_lock: int
    runtime: tuple[str, str, str, str]
    owner: tuple[int, int]

    @property
    def descriptors(self) -> tuple[int, int]:
        """Return the descriptors that the next program must inherit."""
        return self.lock, self.runtime_lock

    @property
    def dsn(self) -> str:
        """Return the DSN of the server."""
        return dsn_of(Path(self.runtime[1]))


class EmbeddedServer:
    """One PostgreSQL server with one data folder. It listens only on a private Unix socket."""

    def __init__(
        self,
        data_dir: Path,
        report: Callable[[str], None] = _logger.info,
        *,
        durable: bool = True,
    ) -> None:
        """Configure the server. No file is created or changed before ``start``.

        ``data_dir`` contains the data (``postgres``), the ``lock`` and ``postgres.log``; ``start``
        creates it if it is missing. ``report`` is called with one line of text for each slow step.
        With ``durable=False``, for tests, the server is faster, but a kill loses the last commits
        and a power failure can lose all data.
        """
        self._given_dir = data_dir  # As messages show it.
        self._data_dir = data_dir.absolute()
        self._folder = self._data_dir / "postgres"
        self._report = report
        self._durable = durable
        self._lock: int | None = None
        self._runtime_lock: int | None = None
        self._owner: Owner | None = None
        self._runtime: RuntimeDirectory | None = None
        self._process: subprocess.Popen[bytes] | AdoptedProcess | None = None
        self._launched = 0.0
        self._log_start = 0  # Where the lines of the present server begin in the log.

    def inheritance(self) -> Inheritance:
        """Describe the running server for ``adopt``."""
        runtime, owner = self._runtime, self._owner
        assert runtime is not None and owner is not None and self._process is not None
        assert self._lock is not None and self._runtime_lock is not None
        return Inheritance(
            str(self._data_dir),
            self._process.pid,
            self._lock,
            self._runtime_lock,
            (str(runtime.path), str(runtime.socket), str(runtime.binaries), runtime.major),
            (owner.uid, owner.gid),
        )

    @classmethod
    def adopt(cls, data_dir: Path, report: Callable[[str], None], inheritance: Inheritance) -> Self:
        """Return the server that an earlier program of this process started."""
        server = cls(data_dir, report)
        path, socket, binaries, major = inheritance.runtime
        server._runtime = RuntimeDirectory(Path(path), Path(socket), Path(binaries), major)
        server._owner = Owner(*inheritance.owner)
        server._lock, server._runtime_lock = inheritance.descriptors
        for descriptor in inheritance.descriptors:
            os.set_inheritable(descriptor, False)
        server._process = AdoptedProcess(inheritance.pid)
        return server

    @property
    def pid(self) -> int | None:
        """Return the process id of PostgreSQL, or None before ``start`` and after ``stop``.

        The process may have exited.
        """
        return None if self._process is None else self._process.pid

    def start(self) -> str:
        """Start PostgreSQL and return the DSN. Create the database if it does not exist.

        If that fails, stop all processes and raise EmbeddedError. It is EmbeddedInUse if another
        process runs the server.
        """
        dsn = self.launch()
        self.wait_until_ready()
        return dsn

    def launch(self) -> str:
        """Do what ``start`` does, but do not wait until PostgreSQL accepts connections.

        The caller does other work meanwhile and then calls ``wait_until_ready``.
        """
        with self._wrap_errors():
            leftover = self._acquire_lock()
        try:
            with self._wrap_errors():
                self._owner = choose_owner(self._data_dir)
                wait_for_previous_server(self._folder, self._owner, self._report)
                remove_leftovers(self._data_dir, leftover)
                self._runtime = create_runtime_directory(self._owner, self._report)
                self._runtime_lock = lock_run_directory(self._runtime.path)
                self._write_record(f"{os.getpid()}\n{self._runtime.path}\n")
                self._prepare_data(self._owner, self._runtime)
                self._launch()
        except BaseException:
            self.stop()
            raise
        return dsn_of(self._runtime.socket)

    def wait_until_ready(self) -> None:
        """Wait until the launched PostgreSQL accepts connections.

        If that fails, stop all processes and raise EmbeddedError.
        """
        try:
            with self._wrap_errors():
                self._poll_until_ready()
        except BaseException:
            self.stop()
            raise

    def readiness(self) -> Callable[[], None]:
        """Return a function that waits for PostgreSQL in a forked child, also after ``detach``.

        It returns after 120 seconds in any case. Only the parent sees that PostgreSQL exits, in
        ``wait_until_ready``, and must then end the child.
        """
        assert self._process is not None, "the server was not launched"
        folder, pid = self._folder, self._process.pid
        deadline = self._launched + _READY_SECONDS

        def wait() -> None:
            while not is_ready(folder, pid) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)

        return wait

    def restart(self) -> None:
        """Start PostgreSQL again after it exited, with the same data and the same DSN.

        Raise EmbeddedError if it does not start. The lock remains held until ``stop``.
        """
        assert self._owner is not None and self._process is not None, "the server was not started"
        stop_process(self._process)
        with self._wrap_errors():
            wait_for_previous_server(self._folder, self._owner, self._report)
            self._launch()
            self._poll_until_ready()

    def stop(self) -> None:
        """Stop PostgreSQL, remove the runtime directory and release the lock. Idempotent.

        PostgreSQL closes open connections and rolls back their transactions. This usually takes
        less than a second, and at most 30 seconds.
        """
        if self._process is not None:
            stop_process(self._process)
        if self._runtime is not None:
            shutil.rmtree(self._runtime.path, ignore_errors=True)
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
        self._clear_state()

    def detach(self) -> None:
        """Close the inherited lock in a forked worker, and leave the server to the parent."""
        if self._process is not None:
            # The server is not a child of the worker. With a return code, Popen does not warn of a
            # running child when the object is deleted.
            self._process.returncode = 0
        self._clear_state()

    def _clear_state(self) -> None:
        for descriptor in (self._runtime_lock, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._runtime_lock = self._owner = self._runtime = self._process = None

    @contextlib.contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            path = getattr(error, "filename", None) or self._given_dir
            raise EmbeddedError(
                f"The database in {self._given_dir} cannot be used: {reason} ({path});"
                " correct that, or set DATA_DIR to another folder."
            ) from error

    def _open(self, name: str, flags: int) -> int:
        # Root may work in the folder of another user. Do not follow links there, and make the owner
        # of the folder the owner of its files.
        descriptor = os.open(self._data_dir / name, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        folder = self._data_dir.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        return descriptor

    def _acquire_lock(self) -> str:
        """Acquire the lock and return the runtime directory recorded by its last holder.

        Raise EmbeddedInUse if another process holds the lock.
        """
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._open("lock", os.O_RDWR)
        deadline = time.monotonic() + _ORPHANED_LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder, runtime_path = _read_record(lock)
                # The workers of a killed parent may hold the lock until they have exited.
                if is_alive(holder) or time.monotonic() > deadline:
                    os.close(lock)
                    raise EmbeddedInUse(
                        f"The database in {self._given_dir} is in use by process"
                        f" {holder or 'unknown'}: stop that process, or set DATA_DIR to another"
                        " folder.",
                        dsn_of(Path(runtime_path) / SOCKET_FOLDER) if runtime_path else None,
                    ) from None
                time.sleep(_POLL_SECONDS)
            except OSError:
                os.close(lock)
                raise
        self._lock = lock
        return _read_record(lock)[1]

    def _write_record(self, text: str) -> None:
        assert self._lock is not None
        # Write before truncating: a kill between the two steps must not lose the recorded path.
        os.pwrite(self._lock, text.encode(), 0)
        os.ftruncate(self._lock, len(text.encode()))

    def _prepare_data(self, owner: Owner, runtime: RuntimeDirectory) -> None:
        given = self._given_dir / "postgres"
        data_owner = self._folder.stat().st_uid if self._folder.exists() else owner.uid
        if data_owner == 0:
            # Root has copied or restored the folder. PostgreSQL never runs as root.
            chown_tree(self._folder, owner)
        elif data_owner != owner.uid:
            raise EmbeddedError(
                f"The data in {given} belongs to user {data_owner}:"
                " start as that user or as root, or set DATA_DIR to another folder."
            )
        if not self._folder.exists() or not any(self._folder.iterdir()):
            self._report(f"Creating the database in {given} ...")
            create_data_folder(self._folder, owner, runtime.binaries, durable=self._durable)
        version = self._folder / "PG_VERSION"
        if not version.exists():
            raise EmbeddedError(
                f"{given} is not a PostgreSQL data folder:"
                " move it away, or set DATA_DIR to another folder."
            )
        major = version.read_text().strip()
        if major != runtime.major:
            raise EmbeddedError(
                f"The data in {given} is of PostgreSQL {major}, but the embedded one is"
                f" {runtime.major}: dump and reload it, or set DATA_DIR to another folder."
            )

    def _launch(self) -> None:
        assert self._owner is not None and self._runtime is not None
        for stale in self._runtime.socket.iterdir():
            stale.unlink()
        if sys.platform == "linux":
            # No server uses this folder now. The process id in this file may belong to another
            # program by now; PostgreSQL would mistake that for a server and refuse to start.
            (self._folder / "postmaster.pid").unlink(missing_ok=True)
        settings = [
            "listen_addresses=",
            f"unix_socket_directories={self._runtime.socket}",
            "unix_socket_permissions=0700",
            f"port={PORT}",
            f"max_connections={_MAX_CONNECTIONS}",
            f"cluster_name={cluster_name(self._folder)}",
            "logging_collector=off",
            "log_destination=stderr",
            *(() if self._durable else _NOT_DURABLE),
        ]
        command = [str(self._runtime.binaries / "postgres"), "-D", data_argument(self._folder)]
        command += [part for setting in settings for part in ("-c", setting)]
        log = self._open_log()
        try:
            self._log_start = os.fstat(log).st_size
            options = spawn_options(self._owner, self._folder, signal.SIGINT)
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, **options
            )
        finally:
            os.close(log)
        self._launched = time.monotonic()

    def _open_log(self) -> int:
        path = self._data_dir / "postgres.log"
        if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return self._open(path.name, os.O_WRONLY | os.O_APPEND)

    def _poll_until_ready(self) -> None:
        process = self._process
        assert process is not None, "the server was not launched"
        is_reported = False
        while not is_ready(self._folder, process.pid):
            waited = time.monotonic() - self._launched
            exited = process.poll() is not None
            if exited or waited > _READY_SECONDS:
                stop_process(process)
                problem = "stopped while starting" if exited else "did not become ready"
                raise EmbeddedError(
                    f"PostgreSQL {problem}; the end of {self._given_dir / 'postgres.log'} says:"
                    f" {self._log_tail()}"
                )
            if waited > _REPORT_AFTER_SECONDS and not is_reported:
                is_reported = True
                self._report("PostgreSQL is recovering from an interruption ...")
            time.sleep(_POLL_SECONDS)

    def _log_tail(self) -> str:
        with (self._data_dir / "postgres.log").open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "nothing"


def running_dsn(data_dir: Path) -> str | None:
    """Return the DSN of the server that a running process has started, or ``None``.

    Only read: to try the lock would stop a service that starts at this moment.
    """
    try:
        record = (data_dir / "lock").read_text(errors="replace")
    except OSError:
        return None
    holder, _, runtime_path = record.partition("\n")
    if not runtime_path.strip() or not is_alive(holder):
        return None
    return dsn_of(Path(runtime_path.strip()) / SOCKET_FOLDER)


def _read_record(lock: int) -> tuple[str, str]:
    holder, _, runtime_path = os.pread(lock, 4096, 0).decode(errors="replace").partition("\n")
    return holder, runtime_path.strip()
