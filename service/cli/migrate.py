"""``run.py migrate``: migrate the database, for platforms that do so before each release."""

import logging

from service.cli.database import running_database
from service.database import migrate as migrations
from service.database.pooler_check import check_pooler
from service.settings.settings import Settings

logger = logging.getLogger(__name__)


def migrate(settings: Settings) -> int:
    """Migrate the database to the schema of this version, then exit."""
    with running_database(settings) as url:
        check_pooler(settings, logger.info)
        count = migrations.migrate(url, logger.info)
    logger.info("the database is up to date: migrations_applied=%d", count)
    return 0
