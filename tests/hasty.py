"""``run.py`` for tests of workers that hang: they are replaced after 4 seconds instead of 20.

A worker does not get through its start while a file ``hold`` lies in the working directory.
"""

import sys
import time
from pathlib import Path
from typing import Any

import run
from service import supervisor, worker

INTERVAL = 0.2
HOLD = Path("hold")

create_app = worker.create_app


def create_app_once_free(*arguments: Any) -> Any:
    """Wait until nothing holds the start; then ``create_app``."""
    while HOLD.exists():
        time.sleep(0.02)
    return create_app(*arguments)


if __name__ == "__main__":
    worker.HEARTBEAT_INTERVAL = supervisor.HEARTBEAT_INTERVAL = INTERVAL
    worker.create_app = create_app_once_free
    sys.exit(run.main())
