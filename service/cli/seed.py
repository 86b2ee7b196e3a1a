"""``run.py seed``: fill an empty database with an example blog."""

import asyncio
import logging

from service.cli.database import running_database
from service.conduit import seed as blog
from service.database.migrate import migrate
from service.database.pool import Database
from service.settings.settings import Settings

logger = logging.getLogger(__name__)


def seed(settings: Settings) -> int:
    """Fill an empty database with the data of a small example blog."""
    with running_database(settings) as url:
        migrate(url, logger.info)
        password = asyncio.run(_seed(url, settings))
    names = ", ".join(f"{name}@example.test" for name in blog.PEOPLE)
    logger.info("Log in as one of %s; the password of each is %s", names, password)
    return 0


async def _seed(url: str, settings: Settings) -> str:
    database = Database(url, size=1)
    await database.open()
    try:
        return await blog.seed(database, logger.info, settings.bcrypt_cost)
    finally:
        await database.close()
