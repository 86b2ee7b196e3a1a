"""Test what the parent loads before it forks the workers."""

import os
import subprocess
import sys
from collections.abc import Sequence

from tests.processes import ROOT, SECRET

# The library of migrations, its driver, and WebAuthn are loaded by a child or at the first use.
LATER = {"yoyo", "psycopg", "webauthn", "cbor2", "OpenSSL", "sentry_sdk", "opentelemetry"}
OF_OTHER_COMMANDS = {
    "service.conduit.seed",
    "service.database.migrate",
    "service.doctor",
    "service.accounts.user_import",
}
LOAD = """
import gc, sys
import service.cli.serve
from service.cli.commands import Settings
from service.preparation import load
load(Settings.load(), "postgresql://localhost/conduit", None)
"""


def after_load(*statements: str) -> Sequence[str]:
    """Return the words that ``statements`` print in a process that has loaded the application."""
    run = subprocess.run(
        [sys.executable, "-c", LOAD + "\n".join(statements)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": "postgresql://localhost/conduit", "JWT_SECRET": SECRET},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return run.stdout.split()


def test_load_imports_nothing_that_only_other_commands_need() -> None:
    loaded = set(after_load("print(*sys.modules)"))
    commands = {name for name in loaded if name.startswith("service.cli.")}
    assert commands == {"service.cli.commands", "service.cli.serve"}
    assert loaded & (LATER | OF_OTHER_COMMANDS) == set()


def test_load_freezes_every_object_and_enables_the_collection() -> None:
    tracked, frozen, is_enabled = after_load(
        "print(len(gc.get_objects()), gc.get_freeze_count(), gc.isenabled())"
    )
    # `get_objects` does not return frozen objects.
    assert int(tracked) < 1000 < int(frozen)
    assert is_enabled == "True"
