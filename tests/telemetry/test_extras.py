"""Test the message about a package that is not installed, and that none is loaded without need."""

import subprocess
import sys

import pytest

from service.telemetry.extras import ExtraMissing, import_extra

LOADED = """
import sys
import service.worker, service.app
print({name.partition(".")[0] for name in sys.modules} & {"sentry_sdk", "opentelemetry"})
"""


def test_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(ExtraMissing) as caught:
        import_extra("no_such_package.part", extra="sentry", setting="SENTRY_DSN")
    assert str(caught.value) == (
        "SENTRY_DSN is set, but the package no_such_package is not installed. "
        "Install it with: pip install -c requirements.txt '.[sentry]'"
    )


def test_application_loads_no_extra_that_no_setting_needs() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, check=True, text=True, timeout=60
    )
    assert run.stdout == "set()\n"
