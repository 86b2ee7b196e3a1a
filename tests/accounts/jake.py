"""The user of the examples in the RealWorld specification."""

from tests.conftest import Dialect, Response

JAKE = {"username": "jake", "email": "jake@jake.jake", "password": "jakejake"}


def user_of(response: Response, dialect: Dialect) -> dict[str, object]:
    """Return the JSON of Jake in this dialect, with the token of ``response``."""
    token = response.body["user"]["token"]
    return {
        "user": {
            "email": "jake@jake.jake",
            "token": token,
            "username": "jake",
            "bio": dialect.no_bio,
            "image": None,
        }
    }
