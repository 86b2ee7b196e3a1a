from typing import Any

from tests.conftest import Client, Dialect

JAKE = {"username": "jake", "email": "jake@jake.jake", "password": "jakejake"}


async def test_registration_answers_the_user(speaker: Client, dialect: Dialect) -> None:
    answer = await speaker.post("/api/users", {"user": JAKE})
    token = answer.body["user"].pop("token")
    assert token.count(".") == 2
    assert answer.status == dialect.registered
    assert answer.body == {
        "user": {
            "email": "jake@jake.jake",
            "username": "jake",
            "bio": dialect.no_bio,
            "image": None,
        }
    }
