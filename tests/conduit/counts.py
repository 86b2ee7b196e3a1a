"""Compare the kept counts with the rows that they count."""

from pathlib import Path

import asyncpg

import sql

PATH = Path(__file__).with_name("counts.sql")
_FIND_WRONG = sql.parse(PATH, PATH.read_text(encoding="utf-8")).find_wrong


async def find_wrong_counts(db: asyncpg.Connection) -> list[asyncpg.Record]:
    """Return one row for each kept count or tag that differs from its rows."""
    rows: list[asyncpg.Record] = await _FIND_WRONG(db)
    return rows
