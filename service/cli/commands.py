"""Run a command and convert its errors to messages and an exit status."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from service import logs
from service.cli.database import DatabaseCommandError
from service.cli.keys import reencrypt
from service.cli.mail import list_unsent, preview, retry
from service.cli.migrate import migrate
from service.cli.seed import seed
from service.cli.serve import serve
from service.cli.users import disable_two_factor, import_accounts, lock, unlock
from service.conduit.seed import SeedError
from service.database.migrate import MigrationError
from service.embedded_postgres.server import EmbeddedError
from service.mail.templates import TemplateError
from service.settings.settings import Settings, SettingsError
from service.supervisor import StartError

FAILED = 1
MISCONFIGURED = 2
INTERRUPTED = 130  # The convention of shells: 128 plus the number of SIGINT.

COMMANDS: dict[str, Callable[..., int]] = {
    "serve": serve,
    "migrate": migrate,
    "seed": seed,
    "mail": list_unsent,
    "mail retry": retry,
    "mail preview": preview,
    "keys reencrypt": reencrypt,
    "users import": import_accounts,
    "users disable-two-factor": disable_two_factor,
    "users lock": lock,
    "users unlock": unlock,
}
"""The commands by name. The docstring of a command is its help text."""


def run_command(name: str, arguments: Mapping[str, Any]) -> int:
    """Run the command ``name`` with the settings of the environment. Return the exit status."""
    logs.configure()
    try:
        return COMMANDS[name](Settings.load(), **arguments)
    except (SettingsError, TemplateError) as error:
        print(error, file=sys.stderr)
        return MISCONFIGURED
    except (StartError, EmbeddedError, MigrationError, SeedError, DatabaseCommandError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to continue.", file=sys.stderr)
        return INTERRUPTED
