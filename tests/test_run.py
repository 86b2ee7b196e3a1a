"""``run.py`` by hand, with a Python that has no packages."""

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python without site packages (``-S``) in ``folder``."""
    return subprocess.run(
        [sys.executable, "-S", *command],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_missing_packages_are_one_sentence_that_names_make_run(tmp_path: Path) -> None:
    process = run(str(ROOT / "run.py"), folder=tmp_path)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith("The package ")
    assert "`make run`" in process.stderr
    assert process.stderr.count("\n") == 1


def test_missing_module_of_the_service_is_a_traceback(tmp_path: Path) -> None:
    """A bug of the service must not look like a missing package."""
    (tmp_path / "run.py").write_text((ROOT / "run.py").read_text())
    process = run("run.py", folder=tmp_path)
    assert process.returncode == 1
    assert "ModuleNotFoundError: No module named 'service'" in process.stderr
