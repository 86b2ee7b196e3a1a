"""The public keys of access tokens, for other services."""

import pytest

from tests.accounts.sessions.keys_of_tokens import ALGORITHMS, published_keys, rotate_keys
from tests.conftest import Client, MakeClient


async def test_list_is_empty_and_may_be_cached_with_hs256(make_client: MakeClient) -> None:
    client = await make_client(token_algorithm="HS256")
    response = await client.get("/.well-known/jwks.json")
    assert (response.status, response.body) == (200, {"keys": []})
    assert response.headers["Cache-Control"] == "public, max-age=300"


@pytest.mark.parametrize(
    ("algorithm", "names"),
    [("ES256", {"kty", "crv", "x", "y"}), ("EdDSA", {"kty", "crv", "x"})],
)
async def test_key_has_no_private_part(
    make_client: MakeClient, algorithm: str, names: set[str]
) -> None:
    client = await make_client(token_algorithm=algorithm)
    (jwk,) = await published_keys(client)
    assert set(jwk) == {*names, "use", "alg", "kid"}
    assert (jwk["use"], jwk["alg"]) == ("sig", algorithm)


async def test_keys_of_earlier_tokens_are_published_with_hs256(make_client: MakeClient) -> None:
    keys = []
    for algorithm in ALGORITHMS:
        client: Client = await make_client(token_algorithm=algorithm)
        keys = await published_keys(client)
    assert {key["alg"] for key in keys} == set(ALGORITHMS)
    client = await make_client(token_algorithm="HS256")
    assert await published_keys(client) == keys
    assert (await rotate_keys(client, "ES256", revoke_old=True)).removed == 2
