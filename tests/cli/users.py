"""Run ``run.py users`` as a process on a database of its own."""

import os
import pty
import subprocess
from pathlib import Path

from tests.processes import MAX_WAIT, RUN, SECRET, Process, serve

INSERT_USER = """
    insert into users (
        username, username_key, email, email_key, email_verified_at, ever_verified,
        two_factor_since
    )
    values ('jake', 'jake', 'jake@jake.jake', 'jake@jake.jake', now(), true, now())
    returning id
"""


def run_users(folder: Path, url: str, *arguments: str) -> Process:
    """Run ``users`` with ``arguments`` until it exits."""
    command = (*RUN, "users", *arguments)
    with serve(folder, command=command, DATABASE_URL=url) as process:
        process.wait_for_exit()
    return process


def run_on_terminal(
    folder: Path, url: str, *arguments: str, typed: str = "", columns: int = 80
) -> tuple[int, str]:
    """Run ``users`` on a terminal on which an operator types. Return the status and the output."""
    own_end, command_end = pty.openpty()
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": url,
        "JWT_SECRET": SECRET,
        "COLUMNS": str(columns),
    }
    folder.mkdir(exist_ok=True)
    command = subprocess.Popen(
        (*RUN, "users", *arguments),
        cwd=folder,
        env=environment,
        stdin=command_end,
        stdout=command_end,
        stderr=command_end,
        start_new_session=True,
    )
    os.close(command_end)
    os.write(own_end, typed.encode())
    pieces = []
    try:
        while piece := os.read(own_end, 4096):
            pieces.append(piece)
    except OSError:
        pass  # Linux reports the end of the other side as an error.
    finally:
        os.close(own_end)
    return command.wait(MAX_WAIT), b"".join(pieces).decode().replace("\r\n", "\n")
