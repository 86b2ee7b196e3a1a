"""A private PostgreSQL for development, tests and single machines, supervised by its parent.

The parent has neither event loop nor threads: it starts the server, forks workers, and waits.
How the pieces live and die together:

- A lock beside the data folder is held from `start` to `stop`; the kernel frees it with its holder.
- On Linux a parent that dies, even by SIGKILL, takes PostgreSQL with it in a clean shutdown. The
  kernel ties this to the *thread* that called `start`, which must be the main one.
- A forked worker inherits the lock, so it calls `detach`; otherwise the lock would live as long as
  the last worker. Programs that are exec'ed inherit nothing.
- The parent may reap with `os.waitpid(-1, ...)`. When that returns `pid`, PostgreSQL has exited:
  call `restart` or `stop`. Both cope with a child that was reaped already. Only `start` runs other
  short-lived children, so reaping begins after it has returned.
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
from pathlib import Path

from service.embedded_postgres.files import (
    DATABASE,
    ROLE,
    RuntimeDirectory,
    create_data_folder,
    give,
    hold,
    make_run_folder,
    owner_of,
    remove_leftovers,
)
from service.embedded_postgres.processes import (
    EmbeddedError,
    Owner,
    cluster_name,
    data_argument,
    end,
    is_alive,
    is_ready,
    spawn_options,
    wait_for_previous_server,
)

__all__ = ["EmbeddedError", "EmbeddedServer"]

_log = logging.getLogger(__name__)
_MAX_CONNECTIONS = 200
_PORT = 5432
_POLL_SECONDS = 0.02
_READY_SECONDS = 120.0
_PATIENCE_SECONDS = 3.0
_ORPHANED_LOCK_SECONDS = 10.0
_MAX_LOG_BYTES = 5_000_000
_NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class EmbeddedServer:
    """One PostgreSQL server over one folder, reachable through a private Unix socket only."""

    def __init__(
        self,
        data_dir: Path,
        report: Callable[[str], None] = _log.info,
        *,
        durable: bool = True,
    ) -> None:
        """Describe a server; nothing is touched before `start`.

        `data_dir` holds the data (`postgres`), the `lock` and `postgres.log`, and is created when
        missing. `report` gets a line for each step that a person waits for. `durable=False` trades
        for speed, in tests, the last commits before a kill and all the data in a power cut.
        """
        self._shown = data_dir
        self._data_dir = data_dir.absolute()
        self._folder = self._data_dir / "postgres"
        self._report = report
        self._durable = durable
        self._lock: int | None = None
        self._held: int | None = None
        self._owner: Owner | None = None
        self._run: RuntimeDirectory | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of PostgreSQL, kept after it exits until `restart` or `stop`."""
        return None if self._process is None else self._process.pid

    def start(self) -> str:
        """Start PostgreSQL, creating the database if there is none, and return the DSN.

        Raises EmbeddedError, leaving nothing running, when that is impossible.
        """
        with self._wrap_errors():
            leftover = self._take_lock()
        try:
            with self._wrap_errors():
                self._owner = owner_of(self._data_dir)
                wait_for_previous_server(self._folder, self._owner, self._report)
                remove_leftovers(self._data_dir, leftover)
                self._run = make_run_folder(self._owner, self._report)
                self._held = hold(self._run.path)
                self._record(f"{os.getpid()}\n{self._run.path}\n")
                self._prepare_data(self._owner, self._run)
                self._launch()
        except BaseException:
            self.stop()
            raise
        return f"postgresql://{ROLE}@/{DATABASE}?host={self._run.socket}&port={_PORT}"

    def restart(self) -> None:
        """Start PostgreSQL again after it exited, on the same data and for the same DSN.

        Raises EmbeddedError when it does not come back; the lock stays held until `stop`.
        """
        assert self._owner is not None and self._process is not None, "start comes first"
        end(self._process)
        with self._wrap_errors():
            wait_for_previous_server(self._folder, self._owner, self._report)
            self._launch()

    def stop(self) -> None:
        """Shut PostgreSQL down, remove the run folder and release the lock; idempotent.

        Open connections are cut and their transactions rolled back. Takes a moment as a rule and
        30 s at most.
        """
        if self._process is not None:
            end(self._process)
        if self._run is not None:
            shutil.rmtree(self._run.path, ignore_errors=True)
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
        self._forget()

    def detach(self) -> None:
        """In a forked worker: let go of the lock and leave the server to the parent."""
        if self._process is not None:
            # It is no child of this process, so there is nothing to warn of when it is forgotten.
            self._process.returncode = 0
        self._forget()

    def _forget(self) -> None:
        for descriptor in (self._held, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._held = self._owner = self._run = self._process = None

    @contextlib.contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            place = getattr(error, "filename", None) or self._shown
            raise EmbeddedError(
                f"The database in {self._shown} cannot be used: {reason} ({place});"
                " put that right, or set DATA_DIR to another folder."
            ) from error

    def _open(self, name: str, flags: int) -> int:
        # Root may work in another user's folder: follow none of its links, take none of its files.
        descriptor = os.open(self._data_dir / name, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        folder = self._data_dir.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        return descriptor

    def _take_lock(self) -> str:
        """Lock the folder and return the run folder which the last holder recorded."""
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._open("lock", os.O_RDWR)
        deadline = time.monotonic() + _ORPHANED_LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder, _ = _read_record(lock)
                # Workers of a killed parent may hold the lock for the moment they need to end.
                if is_alive(holder) or time.monotonic() > deadline:
                    os.close(lock)
                    raise EmbeddedError(
                        f"The database in {self._shown} is in use by process {holder or 'unknown'}:"
                        " stop that process, or set DATA_DIR to another folder."
                    ) from None
                time.sleep(_POLL_SECONDS)
            except OSError:
                os.close(lock)
                raise
        self._lock = lock
        return _read_record(lock)[1]

    def _record(self, text: str) -> None:
        assert self._lock is not None
        # Written before it is shortened, so that a kill in between loses no run folder.
        os.pwrite(self._lock, text.encode(), 0)
        os.ftruncate(self._lock, len(text.encode()))

    def _prepare_data(self, owner: Owner, run: RuntimeDirectory) -> None:
        shown = self._shown / "postgres"
        holder = self._folder.stat().st_uid if self._folder.exists() else owner.uid
        if holder == 0:
            # Root copied or restored the folder; PostgreSQL itself never runs as root.
            give(self._folder, owner)
        elif holder != owner.uid:
            raise EmbeddedError(
                f"The data in {shown} belongs to user {holder}:"
                " start as that user or as root, or set DATA_DIR to another folder."
            )
        if not self._folder.exists() or not any(self._folder.iterdir()):
            self._report(f"Creating the database in {shown} ...")
            create_data_folder(self._folder, owner, run.binaries, durable=self._durable)
        version = self._folder / "PG_VERSION"
        if not version.exists():
            raise EmbeddedError(
                f"{shown} is not a PostgreSQL data folder:"
                " move it away, or set DATA_DIR to another folder."
            )
        major = version.read_text().strip()
        if major != run.major:
            raise EmbeddedError(
                f"The data in {shown} is of PostgreSQL {major}, but the embedded one is"
                f" {run.major}: dump and reload it, or set DATA_DIR to another folder."
            )

    def _launch(self) -> None:
        assert self._owner is not None and self._run is not None
        for stale in self._run.socket.iterdir():
            stale.unlink()
        if sys.platform == "linux":
            # No server of this folder is left, and the process id in this file may have been given
            # to somebody else since, whom PostgreSQL would take for a server and refuse to start.
            (self._folder / "postmaster.pid").unlink(missing_ok=True)
        settings = [
            "listen_addresses=",
            f"unix_socket_directories={self._run.socket}",
            "unix_socket_permissions=0700",
            f"port={_PORT}",
            f"max_connections={_MAX_CONNECTIONS}",
            f"cluster_name={cluster_name(self._folder)}",
            "logging_collector=off",
            "log_destination=stderr",
            *(() if self._durable else _NOT_DURABLE),
        ]
        command = [str(self._run.binaries / "postgres"), "-D", data_argument(self._folder)]
        command += [part for setting in settings for part in ("-c", setting)]
        log = self._open_log()
        try:
            log_start = os.fstat(log).st_size
            options = spawn_options(self._owner, self._folder, signal.SIGINT)
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, **options
            )
        finally:
            os.close(log)
        self._await_ready(self._process, log_start)

    def _open_log(self) -> int:
        path = self._data_dir / "postgres.log"
        if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return self._open(path.name, os.O_WRONLY | os.O_APPEND)

    def _await_ready(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        started = time.monotonic()
        patient = False
        while not is_ready(self._folder, process.pid):
            waited = time.monotonic() - started
            exited = process.poll() is not None
            if exited or waited > _READY_SECONDS:
                end(process)
                problem = "stopped while starting" if exited else "did not become ready"
                raise EmbeddedError(
                    f"PostgreSQL {problem}; the end of {self._shown / 'postgres.log'} says:"
                    f" {self._log_tail(log_start)}"
                )
            if waited > _PATIENCE_SECONDS and not patient:
                patient = True
                self._report("PostgreSQL is recovering from an interruption ...")
            time.sleep(_POLL_SECONDS)

    def _log_tail(self, log_start: int) -> str:
        with (self._data_dir / "postgres.log").open("rb") as log:
            log.seek(log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "nothing"


def _read_record(lock: int) -> tuple[str, str]:
    holder, _, run_folder = os.pread(lock, 4096, 0).decode(errors="replace").partition("\n")
    return holder, run_folder.strip()
