"""Create content through the API, and build the JSON that the API should return."""

import asyncio
import re
from typing import Any

from service.accounts.closed_accounts import CLOSED_ACCOUNTS
from service.http.responses import MAX_PAGE_BYTES
from tests.conftest import Client, Response

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

DRAGON: dict[str, Any] = {
    "title": "How to train your dragon",
    "description": "Ever wonder how?",
    "body": "You have to believe",
    "tagList": ["reactjs", "angularjs", "dragons"],
}

JSON = {"Content-Type": "application/json"}

# Six bytes in JSON: no character takes more.
LONGEST_IN_JSON = "\x01"

MAX_RESPONSE_BYTES = MAX_PAGE_BYTES + 1000


async def publish(
    client: Client, token: str, title: str = DRAGON["title"], **fields: Any
) -> dict[str, Any]:
    """Create an article and return its JSON."""
    body = {"article": {**DRAGON, "title": title, **fields}}
    response = await client.post("/api/articles", body, token=token)
    assert response.status == 201, response
    article: dict[str, Any] = response.body["article"]
    return article


async def comment_on(
    client: Client, token: str, slug: str, body: str = "Thank you!"
) -> dict[str, Any]:
    """Create a comment on an article and return its JSON."""
    response = await client.post(
        f"/api/articles/{slug}/comments", {"comment": {"body": body}}, token=token
    )
    assert response.status == 201, response
    comment: dict[str, Any] = response.body["comment"]
    return comment


async def register_longest_author(client: Client, name: str) -> str:
    """Register ``name`` with the longest profile of the strict dialect, and return the token."""
    token = await client.register(name)
    changes = {
        "username": "🐘" * 50,
        "bio": LONGEST_IN_JSON * 500,
        "image": LONGEST_IN_JSON * 2048,
    }
    response = await client.put("/api/user", {"user": changes}, token=token)
    assert response.status == 200, response
    return token


async def read_all_pages(
    client: Client, path: str, name: str, *, token: str | None = None
) -> list[Response]:
    """Return every page of a list, up to the empty one. Each page begins where the last one ended.

    Assert that no page is larger than ``MAX_RESPONSE_BYTES``. ``name`` is the key of the list in
    the body.
    """
    pages: list[Response] = []
    offset = 0
    while not pages or pages[-1].body[name]:
        mark = "&" if "?" in path else "?"
        pages.append(await client.get(f"{path}{mark}offset={offset}", token=token))
        assert pages[-1].status == 200, pages[-1]
        assert int(pages[-1].headers["Content-Length"]) <= MAX_RESPONSE_BYTES
        offset += len(pages[-1].body[name])
    return pages


async def follow(client: Client, token: str, *names: str) -> None:
    """Follow the users with these names."""
    for name in names:
        response = await client.post(f"/api/profiles/{name}/follow", token=token)
        assert response.status == 200, response


async def favorite(client: Client, token: str, *slugs: str) -> None:
    """Favorite the articles."""
    for slug in slugs:
        response = await client.post(f"/api/articles/{slug}/favorite", token=token)
        assert response.status == 200, response


async def close_account(client: Client, token: str, name: str) -> None:
    """Delete an account that ``Client.register`` created."""
    body = {"user": {"password": f"{name}-secret"}}
    assert (await client.delete("/api/user", body, token=token)).status == 204


async def wait_until_removed(client: Client) -> None:
    """Wait until all content of the closed accounts is removed."""
    app: Any = client.http.app
    async with asyncio.timeout(20):
        # It returns False while the background task holds the lock.
        while not await app[CLOSED_ACCOUNTS].remove_all():
            pass


def expected_profile(
    name: str, bio: str | None = "", *, image: str | None = None, following: bool = False
) -> dict[str, Any]:
    """Return the JSON of a profile."""
    return {"username": name, "bio": bio, "image": image, "following": following}


def expected_article(
    created: dict[str, Any], author: dict[str, Any], slug: str, **changes: Any
) -> dict[str, Any]:
    """Return the JSON of the article ``DRAGON`` with ``changes``. ``body=None`` removes the body.

    Take the times from ``created``, and assert that they are times.
    """
    assert TIME.fullmatch(created["createdAt"])
    assert TIME.fullmatch(created["updatedAt"])
    expected = {
        **DRAGON,
        "slug": slug,
        "createdAt": created["createdAt"],
        "updatedAt": created["updatedAt"],
        "favorited": False,
        "favoritesCount": 0,
        "author": author,
        **changes,
    }
    if expected["body"] is None:
        del expected["body"]
    return expected


def slugs_of(response: Response) -> list[str]:
    """Return the slugs of the articles in a list."""
    assert response.status == 200, response
    return [article["slug"] for article in response.body["articles"]]
