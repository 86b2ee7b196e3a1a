#!/usr/bin/env python3
"""The command line: ``python run.py [serve|migrate]``; ``serve`` is the default."""

import argparse
import logging
import signal
import sys

from service import logs
from service.database.embedded import EmbeddedError, EmbeddedServer
from service.database.migrate import MigrationError, migrate
from service.settings import Settings, SettingsError
from service.supervisor import StartError, Supervisor

logger = logging.getLogger("run")

FAILED = 1
MISCONFIGURED = 2
INTERRUPTED = 130  # As a shell counts it: 128 and the number of SIGINT.


def serve(settings: Settings) -> int:
    """Migrate the database, then serve requests until told to stop."""
    return Supervisor(settings).run()


def migrate_only(settings: Settings) -> int:
    """Bring the database to the schema of this version, and end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    embedded = EmbeddedServer(settings.data_dir, logger.info) if settings.embedded else None
    url = embedded.start() if embedded is not None else settings.database_url
    try:
        count = migrate(url or "", logger.info)
    finally:
        if embedded is not None:
            embedded.stop()
    logger.info("The database is up to date (%s migrations applied)", count)
    return 0


COMMANDS = {"serve": serve, "migrate": migrate_only}


def main() -> int:
    """Run the command that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="run.py", description="A user-account service and RealWorld API."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__)
    arguments = parser.parse_args()
    logs.configure()
    try:
        return COMMANDS[arguments.command or "serve"](Settings.load())
    except SettingsError as error:
        for sentence in error.sentences:
            print(sentence, file=sys.stderr)
        return MISCONFIGURED
    except (StartError, EmbeddedError, MigrationError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("Interrupted; the next start goes on from here.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
