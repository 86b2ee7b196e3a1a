"""Fixtures for tests of files that contain secrets."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SECRET = "fdIbzyCcQKIdGhUkxEVrQnCoZ0hAYw7kNUAs"
UNPRIVILEGED_USER = 65534


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Yield a folder of an unprivileged user. Run the test as that user: root reads any file."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, UNPRIVILEGED_USER, -1)
        os.seteuid(UNPRIVILEGED_USER)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)
