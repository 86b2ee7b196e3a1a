"""A short and deterministic run of the fuzzer. ``make fuzz`` runs longer, with random seeds."""

import io
from pathlib import Path

import asyncpg

from service.settings.settings import Settings
from tests.conftest import SETTINGS
from tests.fuzz import fuzz, serving


async def test_responses_to_generated_requests_are_documented(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    settings = Settings(**{**SETTINGS, "data_dir": tmp_path})
    async with serving(settings, database_url, io.StringIO()) as base_url:
        status, output = await fuzz(
            *(base_url, database_url, tmp_path),
            *("--max-examples", "3", "--generation-deterministic", "--no-shrink"),
            *("--phases", "examples,coverage,fuzzing"),
        )
    assert status == 0, output
