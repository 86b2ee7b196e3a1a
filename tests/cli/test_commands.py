"""Run the commands as processes, as a terminal or a platform does."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.processes import ROOT, RUN, SECRET, Process, serve

NewDatabase = Callable[[], str]


def test_invalid_settings_are_one_line_each_with_exit_status_2(tmp_path: Path) -> None:
    faulty = {
        "PORT": "http",
        "WEB_CONCURRENCY": "0",
        "DATABASE_URL": "mysql://x",
        "JWT_SECRET": "x",
    }
    with Process(RUN, tmp_path, faulty) as service:
        assert service.status() == 2
        assert [line.split()[0] for line in sorted(service.err.splitlines())] == sorted(faulty)
        assert "Traceback" not in service.err


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
        assert release.status() == 0, release.err
    with serve(tmp_path, command=("sh", "-c", lines["web"]), **platform) as web:
        web.serving().register("jake")
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
        service.serving().register("jake")
        assert service.request("GET", "/")[0] == 200
