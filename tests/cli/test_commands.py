"""Run the commands as processes, as a terminal or a platform does."""

import os
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
