"""``run.py`` whose workers fail to start while a file ``fail`` exists in the working directory."""

import sys
from pathlib import Path
from typing import Any

import run
from service import worker
from service.worker import run_worker

FAIL = Path("fail")


def fail_or_run(*arguments: Any) -> int:
    """Run the worker unless the file exists."""
    if FAIL.exists():
        raise RuntimeError("this worker fails")
    return run_worker(*arguments)


if __name__ == "__main__":
    vars(worker)["run_worker"] = fail_or_run
    sys.exit(run.main())
