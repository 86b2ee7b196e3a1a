"""``run.py seed``: fill an empty database with an example blog."""

import asyncio
import logging

from service.cli.database import running_database
from service.conduit import seed as blog
from service.database.migrate import migrate
from service.database.pool import Database
from service.database.pooler_check import check_pooler
from service.settings.settings import Settings

logger = logging.getLogger(__name__)

DONE = """
Start the service with `make run`, and log in as one of the authors:
  email     {email}
  password  {password}

The other authors have the same password:
  {others}

Browsers load the pictures of the authors from {url}.
To start afresh, {afresh}."""


def seed(settings: Settings) -> int:
    """Fill an empty database with the data of a small example blog."""
    with running_database(settings) as url:
        check_pooler(settings, logger.info)
        migrate(url, logger.info)
        password = asyncio.run(_seed(url, settings))
    first, *others = blog.AUTHORS
    if settings.embedded:
        afresh = f"stop the service, remove {settings.data_dir} and run `make seed` again"
    else:
        afresh = "name an empty database in DATABASE_URL and run `make seed` again"
    text = DONE.format(
        email=f"{first}@example.test",
        password=password,
        others=", ".join(others),
        url=settings.local_url,
        afresh=afresh,
    )
    print(text, flush=True)
    return 0


async def _seed(url: str, settings: Settings) -> str:
    database = Database(url, size=1)
    await database.open()
    try:
        return await blog.seed(
            database, logger.info, settings.bcrypt_cost, service_url=settings.local_url
        )
    finally:
        await database.close()
