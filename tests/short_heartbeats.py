"""``run.py`` with a short heartbeat interval: a worker that hangs is replaced after 4 seconds.

With the interval of the service it takes 20 seconds. The start of a worker waits while a file
``hold`` exists in the working directory.
"""

import sys
import time
from pathlib import Path
from typing import Any

import run
from service import supervisor, worker
from service.app import create_app

INTERVAL = 0.2  # Seconds.
HOLD = Path("hold")


def create_app_when_released(*arguments: Any) -> Any:
    """Wait until the file ``hold`` does not exist, then call ``create_app``."""
    while HOLD.exists():
        time.sleep(0.02)
    return create_app(*arguments)


if __name__ == "__main__":
    for module in (worker, supervisor):
        vars(module)["HEARTBEAT_INTERVAL"] = INTERVAL
    vars(worker)["create_app"] = create_app_when_released
    sys.exit(run.main())
