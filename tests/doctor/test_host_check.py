"""Test the check of several hosts of a database."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from service.doctor.findings import Status
from service.doctor.host_check import check_hosts, host_findings
from tests.doctor.checks import messages, problems, run_check
from tests.network import Network
from tests.processes import free_port


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"a:1": "primary", "b:1": "replica"}, []),
        ({"a:1": "primary", "b:1": None}, ["b:1 does not respond: no failover to it is possible"]),
        ({"a:1": "replica", "b:1": "replica"}, ["no host accepts writes"]),
        (
            {"a:1": "primary", "b:1": "primary"},
            ["several hosts accept writes, each for itself: a:1, b:1"],
        ),
    ],
)
def test_one_host_must_accept_writes(states: dict[str, str | None], expected: list[str]) -> None:
    assert problems(host_findings(states, "DATABASE_URL")) == expected


async def test_host_that_does_not_respond_is_found_beside_the_primary(database_url: str) -> None:
    given = conninfo_to_dict(database_url)
    async with Network(database_url) as network:
        port = network.url.rpartition(":")[2].partition("/")[0]
        hosts = f"127.0.0.1:{port},127.0.0.1:{free_port()}"
        url = f"postgresql://{given['user']}:word@{hosts}/{given['dbname']}"
        findings = await run_check(check_hosts, url, database_url=url)
    assert f"127.0.0.1:{port} is a primary" in messages(findings)
    (message,) = problems(findings)
    assert "does not respond" in message
    assert "word" not in message


@pytest.mark.parametrize("url", [None, "postgresql://u@h/x"])
async def test_one_host_is_a_note(url: str | None) -> None:
    (finding,) = await run_check(check_hosts, url, database_url=url)
    assert finding.status is Status.NOTE
