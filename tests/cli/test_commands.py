"""Run the commands as processes, as a terminal or a platform does."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from service.cli.commands import COMMANDS
from tests.processes import ROOT, RUN, SECRET, Process, free_port, serve

NewDatabase = Callable[[], str]


def test_invalid_settings_are_one_line_each_with_exit_status_2(tmp_path: Path) -> None:
    faulty = {
        "PORT": "http",
        "WEB_CONCURRENCY": "0",
        "DATABASE_URL": "mysql://x",
        "JWT_SECRET": "x",
    }
    with Process(RUN, tmp_path, faulty) as service:
        assert service.wait_for_exit() == 2
        assert [line.split()[0] for line in sorted(service.err.splitlines())] == sorted(faulty)
        assert "Traceback" not in service.err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_text_is_the_docstring_of_the_function(name: str) -> None:
    command = COMMANDS[name]
    module = import_module(f"service.cli.{command.module}")
    assert getattr(module, command.function).__doc__ == command.help


def test_help_lists_every_command(tmp_path: Path) -> None:
    for name, command in COMMANDS.items():
        *group, word = name.split()
        with Process((*RUN, *group, "--help"), tmp_path, {"COLUMNS": "200"}) as process:
            assert process.wait_for_exit() == 0
            assert f"\n    {word} " in process.out
            assert command.help in process.out


def test_unknown_command_is_rejected_with_exit_status_2(tmp_path: Path) -> None:
    with Process((*RUN, "server"), tmp_path, {}) as process:
        assert process.wait_for_exit() == 2
        assert "invalid choice: 'server'" in process.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_command_is_one_sentence_with_exit_status_130(
    tmp_path: Path, number: signal.Signals
) -> None:
    url = f"postgresql://127.0.0.1:{free_port()}/x"
    with serve(tmp_path, command=(*RUN, "migrate"), DATABASE_URL=url) as process:
        process.wait_for_output("Waiting for the database")
        process.send(number)
        assert process.wait_for_exit() == 130
        assert process.err == "Interrupted. Run the same command again to continue.\n"


def test_procfile_releases_and_serves(tmp_path: Path, new_database: NewDatabase) -> None:
    lines = dict(
        line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line
    )
    platform = {
        "DATABASE_URL": new_database(),
        "JWT_SECRET": SECRET,
        "BCRYPT_COST": "",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # No .env is deployed, as there may be one in the folder of the project.
    (tmp_path / "run.py").symlink_to(ROOT / "run.py")
    with serve(tmp_path, command=("sh", "-c", lines["release"]), **platform) as release:
        assert release.wait_for_exit() == 0, release.err
    with serve(tmp_path, command=("sh", "-c", lines["web"]), **platform) as web:
        web.wait_until_serving().register("jake")
        assert web.login("jake") == 200


def test_files_of_the_docker_image_are_enough_to_start(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    names = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert lines[1] == "*"
    assert {"service", "sql"} <= set(names), "the installed packages of this Python hide their lack"
    app = tmp_path / "app"
    app.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, app / name)
        else:
            shutil.copy(ROOT / name, app)
    command = (sys.executable, str(app / "run.py"))
    with serve(tmp_path, command=command, DATABASE_URL=new_database()) as service:
        service.wait_until_serving().register("jake")
        assert service.request("GET", "/")[0] == 200
