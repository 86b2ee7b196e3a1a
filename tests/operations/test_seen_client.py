"""Test which client ``GET /health/client`` reports, and to whom."""

import pytest

from service.operations import seen_client
from service.operations.seen_client import LIFETIME, MAX_ENTRIES, PATH, is_proof, make_proof
from tests.conftest import SECRET, Client, MakeClient


def proof(secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_proof(secret)}"}


async def test_client_is_reported_with_the_entries_of_proxies(make_client: MakeClient) -> None:
    client = await make_client(trusted_proxies=1)
    headers = {**proof(), "X-Forwarded-For": "192.0.2.1, 198.51.100.7"}
    response = await client.get(PATH, headers=headers)
    assert response.status == 200
    assert response.body == {
        "ip": "198.51.100.7",
        "peer": "127.0.0.1",
        "forwarded_for": ["192.0.2.1", "198.51.100.7"],
    }


async def test_client_without_a_proxy_has_no_entries(client: Client) -> None:
    response = await client.get(PATH, headers=proof())
    assert response.body == {"ip": "127.0.0.1", "peer": "127.0.0.1", "forwarded_for": []}


async def test_entries_are_bounded(client: Client) -> None:
    entries = ",".join(["x" * 80] * 90)
    response = await client.get(PATH, headers={**proof(), "X-Forwarded-For": entries})
    assert response.body["forwarded_for"] == ["x" * 64] * MAX_ENTRIES


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer x",
        "Bearer .",
        pytest.param(f"Bearer {make_proof('another secret of 32 bytes or more')}", id="foreign"),
        "Bearer 99999999999." + "0" * 64,
        pytest.param(f"Token {make_proof(SECRET)}", id="scheme"),
        "Bearer ١.é",
    ],
)
async def test_request_without_a_valid_proof_is_rejected(client: Client, value: str) -> None:
    headers = {"Authorization": value} if value else {}
    response = await client.get(PATH, headers=headers)
    assert response.status == 401
    assert response.body["code"] == ("key_invalid" if value else "key_missing")


def test_proof_is_valid_for_its_lifetime_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_client, "clock", lambda: 1_000_000.0)
    made = make_proof(SECRET)
    for now, is_valid in (
        (1_000_000.0, True),
        (1_000_000.0 + LIFETIME, True),
        (1_000_001.0 + LIFETIME, False),
        (999_999.0 - LIFETIME, False),
    ):
        monkeypatch.setattr(seen_client, "clock", lambda now=now: now)
        assert is_proof(made, SECRET) is is_valid, now
    assert not is_proof("1000000", SECRET)
    assert not is_proof("1000000." + "0" * 64, SECRET)
