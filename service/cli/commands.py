"""Run a command and convert its errors to messages and an exit status."""

import io
import logging
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from service import logs
from service.settings.settings import Settings

INTERRUPTED = 130  # The convention of shells: 128 plus the number of SIGINT.
OUTPUT_CLOSED = 141  # 128 plus the number of SIGPIPE.


class Command(NamedTuple):
    """A command: its module in this package, its function, and its help text.

    Only the module of the given command is imported: ``serve`` starts sooner and takes less memory.
    """

    module: str
    function: str
    help: str
    """The docstring of the function."""
    loads_settings: bool = False
    """Whether the function loads the settings itself. Otherwise they are its first argument."""


COMMANDS = {
    "serve": Command(
        "serve",
        "serve",
        "Migrate the database, then serve requests until a signal stops the service.",
    ),
    "migrate": Command(
        "migrate", "migrate", "Migrate the database to the schema of this version, then exit."
    ),
    "seed": Command(
        "seed", "seed", "Fill an empty database with the data of a small example blog."
    ),
    "doctor": Command(
        "doctor",
        "doctor",
        "Check the installation: what holds, what does not, and what to do.",
        loads_settings=True,
    ),
    "mail": Command(
        "mail",
        "list_unsent",
        "List the mails that wait and those that were refused.",
    ),
    "mail retry": Command(
        "mail", "retry", "Send the mails that wait and those that were refused now, or one of them."
    ),
    "mail preview": Command(
        "mail", "preview", "Write every mail in every language to files, with sample values."
    ),
    "keys reencrypt": Command(
        "keys", "reencrypt", "Encrypt every secret with the first key of ENCRYPTION_KEYS."
    ),
    "keys rotate": Command(
        "signing_keys", "rotate", "Replace the key that signs access tokens. No user is signed out."
    ),
    "keys create": Command(
        "api_keys", "create", "Create an API key with a name and scopes, and print it once."
    ),
    "keys list": Command("api_keys", "list_all", "List the API keys, also those that are revoked."),
    "keys revoke": Command(
        "api_keys", "revoke", "Revoke an API key. The next request with it is rejected."
    ),
    "users list": Command("user_views", "list_all", "List accounts, the newest first."),
    "users show": Command(
        "user_views",
        "show",
        "Show an account: its ways to sign in, its open sessions and its latest events.",
    ),
    "users export": Command(
        "user_views",
        "export",
        "Print everything that is stored about a user as JSON, as they can export it themselves.",
    ),
    "users sign-out": Command(
        "sign_out",
        "sign_out",
        "End all sessions of a user, or with --all-users of everybody. The latter asks first.",
    ),
    "users verify": Command(
        "users",
        "verify",
        "Mark the email of an account as verified, as its owner does with a mailed link.",
    ),
    "users reset": Command(
        "users",
        "reset",
        "Mail a link with which the owner of an account chooses a new password.",
    ),
    "users delete": Command(
        "users", "delete", "Delete an account with everything that its user wrote. Ask first."
    ),
    "users import": Command(
        "users",
        "import_accounts",
        "Import accounts from a file of JSON lines, with the password hashes of another system.",
    ),
    "users disable-two-factor": Command(
        "users",
        "disable_two_factor",
        "Turn off the second factor of an account. The owner is told by mail.",
    ),
    "users lock": Command(
        "users",
        "lock",
        "Lock an account: end its sessions, and refuse every login until it is unlocked.",
    ),
    "users unlock": Command(
        "users",
        "unlock",
        "Unlock an account. Its owner logs in again.",
    ),
    "users roles": Command("roles", "change_roles", "Show the roles of a user, and change them."),
}
"""The commands by name."""

LOGGING = {"serve", "migrate", "seed"}
"""The commands whose output is the log."""


def run_command(name: str, arguments: Mapping[str, Any]) -> int:
    """Run the command ``name`` with the settings of the environment. Return the exit status.

    An error that the operator can fix has an attribute ``exit_status``, and its message is for
    them.
    """
    if name in LOGGING:
        logs.configure()
    else:
        # A program may read what the command prints. A warning tells what its error tells.
        logs.configure(sys.stderr, logging.ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Its encoding may not be UTF-8.
    try:
        command = COMMANDS[name]
        loaded = () if command.loads_settings else (Settings.load(),)
        function = getattr(import_module(f"service.cli.{command.module}"), command.function)
        status: int = function(*loaded, **arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again to continue.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has read enough. Python would fail again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    except Exception as error:
        exit_status: int | None = getattr(error, "exit_status", None)
        if exit_status is None:
            raise
        print(error, file=sys.stderr)
        return exit_status
