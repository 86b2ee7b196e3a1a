#!/usr/bin/env python3
"""Command line of the service: ``python run.py [serve|migrate|seed]``. The default is ``serve``."""

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator

from service import logs
from service.conduit.seed import PEOPLE, SeedError, seed
from service.database.migrate import MigrationError, migrate
from service.database.pool import Database
from service.embedded_postgres.server import EmbeddedError, EmbeddedServer
from service.settings.settings import Settings, SettingsError
from service.supervisor import StartError, Supervisor, block_signals, interruptible

logger = logging.getLogger("run")

FAILED = 1
MISCONFIGURED = 2
INTERRUPTED = 130  # The convention of shells: 128 plus the number of SIGINT.


def serve(settings: Settings) -> int:
    """Migrate the database, then serve requests until a signal stops the service."""
    return Supervisor(settings).run()


def migrate_only(settings: Settings) -> int:
    """Migrate the database to the schema of this version, then exit."""
    with _database_of(settings) as url:
        count = migrate(url, logger.info)
    logger.info("The database is up to date (%s migrations applied)", count)
    return 0


def seed_blog(settings: Settings) -> int:
    """Fill an empty database with the data of a small example blog."""
    with _database_of(settings) as url:
        migrate(url, logger.info)
        password = asyncio.run(_seed(url, settings.bcrypt_cost))
    names = ", ".join(f"{name}@example.test" for name in PEOPLE)
    logger.info("Log in as one of %s; the password of each is %s", names, password)
    return 0


async def _seed(url: str, cost: int) -> str:
    database = Database(url, size=1)
    await database.open()
    try:
        return await seed(database, logger.info, cost)
    finally:
        await database.close()


@contextlib.contextmanager
def _database_of(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database.

    Without ``DATABASE_URL``, start the embedded server first and stop it at the end.
    """
    block_signals()
    if settings.database_url is not None:
        with interruptible():
            yield settings.database_url
        return
    embedded = EmbeddedServer(settings.data_dir, logger.info)
    try:
        with interruptible():
            yield embedded.start()
    finally:
        embedded.stop()


COMMANDS = {"serve": serve, "migrate": migrate_only, "seed": seed_blog}


def main() -> int:
    """Run the command named on the command line and return the exit status."""
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
    except (StartError, EmbeddedError, MigrationError, SeedError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("Interrupted; the next start goes on from here.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
