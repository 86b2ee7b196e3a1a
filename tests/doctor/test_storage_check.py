"""Test the check of the storage."""

from pathlib import Path

import pytest

from service.doctor.findings import Status
from service.doctor.storage_check import check_storage, space_finding
from tests.doctor.checks import messages, run_check


@pytest.mark.parametrize(
    ("free", "total", "status"),
    [
        (50_000_000_000, 100_000_000_000, Status.OK),
        (900_000_000, 10_000_000_000, Status.PROBLEM),
        (4_000_000_000, 100_000_000_000, Status.PROBLEM),
    ],
)
def test_little_free_space_is_a_problem(free: int, total: int, status: Status) -> None:
    assert space_finding(Path(".data"), free, total).status is status


async def test_folder_of_the_embedded_server_is_looked_at_and_not_created(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert "does not exist" in messages(await run_check(check_storage, data_dir=folder))
    assert not folder.exists()
    folder.mkdir()
    text = messages(await run_check(check_storage, data_dir=folder))
    assert "the embedded PostgreSQL does not run" in text
    assert "GB are free" in text
    text = messages(await run_check(check_storage, "postgresql:///x", data_dir=folder))
    assert "the embedded PostgreSQL runs" in text


async def test_disk_of_a_server_cannot_be_seen() -> None:
    (finding,) = await run_check(check_storage, database_url="postgresql:///x")
    assert finding.status is Status.NOTE
