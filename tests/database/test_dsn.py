"""The connection URL that asyncpg receives."""

import pytest

from service.database.dsn import url_for_asyncpg

ONE = "postgresql://user:password@db:5432/conduit"
TWO = "postgresql://user@a:5432,b:5433/conduit"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (ONE, ONE),
        (f"{ONE}?sslmode=require", f"{ONE}?sslmode=require"),
        (f"{ONE}?connect_timeout=3", ONE),
        (
            f"{ONE}?keepalives=1&sslmode=require&application_name=a%20b&channel_binding=prefer",
            f"{ONE}?sslmode=require&application_name=a%20b",
        ),
        ("postgresql:///conduit?host=/run/pg", "postgresql:///conduit?host=/run/pg"),
    ],
)
def test_url_keeps_only_the_parameters_of_asyncpg(url: str, expected: str) -> None:
    assert url_for_asyncpg(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (TWO, f"{TWO}?target_session_attrs=read-write"),
        (f"{TWO}?connect_timeout=3", f"{TWO}?target_session_attrs=read-write"),
        (
            "postgresql:///conduit?host=a,b",
            "postgresql:///conduit?host=a,b&target_session_attrs=read-write",
        ),
        (f"{TWO}?target_session_attrs=any", f"{TWO}?target_session_attrs=any"),
        ("postgresql://user:pass,word@db/conduit", "postgresql://user:pass,word@db/conduit"),
    ],
)
def test_url_requests_the_primary_when_it_has_several_hosts(url: str, expected: str) -> None:
    assert url_for_asyncpg(url) == expected
