"""Check the storage of the embedded PostgreSQL."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from service.doctor.findings import Context, Finding, note, ok, problem

MIN_FREE = 1_000_000_000  # Bytes.
MIN_FREE_SHARE = 0.05


async def check_storage(context: Context) -> AsyncIterator[Finding]:
    """Check the storage of the embedded PostgreSQL."""
    if not context.settings.embedded:
        yield note("the disk of PostgreSQL cannot be seen from here", "watch its free space there")
        return
    folder = context.settings.data_dir
    if not await asyncio.to_thread(folder.is_dir):
        yield note(f"{folder} does not exist: the first start creates it")
        return
    state = "runs" if context.database_url is not None else "does not run"
    yield note(f"the embedded PostgreSQL {state}; it is for development and single machines")
    usage = await asyncio.to_thread(shutil.disk_usage, folder)
    yield space_finding(folder, usage.free, usage.total)


def space_finding(folder: Path, free: int, total: int) -> Finding:
    """Return the finding for a disk with ``free`` of ``total`` bytes."""
    message = f"disk of {folder}: {free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free"
    if free < MIN_FREE or free < total * MIN_FREE_SHARE:
        return problem(message, "free some space: a full disk stops PostgreSQL")
    return ok(message)
