"""A short round of fuzzing, the same in every run; ``make fuzz`` goes on for longer."""

import io
from pathlib import Path

import asyncpg

from service.settings.settings import Settings
from tests.conftest import SETTINGS
from tests.fuzz import fuzz, serving


async def test_no_answer_is_outside_the_document(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    settings = Settings(**{**SETTINGS, "data_dir": tmp_path})
    async with serving(settings, database_url, io.StringIO()) as address:
        status, said = await fuzz(
            *(address, tmp_path),
            *("--max-examples", "3", "--generation-deterministic", "--no-shrink"),
            *("--phases", "examples,coverage,fuzzing"),
        )
    assert status == 0, said
