"""What the tests of this folder write, and how it should come back."""

import asyncio
import re
from typing import Any

from service.accounts.closed_accounts import CLOSED_ACCOUNTS
from service.http.responses import MAX_PAGE_BYTES
from tests.conftest import Answer, Client

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

DRAGON = {
    "title": "How to train your dragon",
    "description": "Ever wonder how?",
    "body": "You have to believe",
    "tagList": ["reactjs", "angularjs", "dragons"],
}

JSON = {"Content-Type": "application/json"}

# Six bytes in JSON, the most that a character can take.
LONGEST_IN_JSON = "\x01"

LARGEST_ANSWER = MAX_PAGE_BYTES + 1000


async def publish(
    client: Client, token: str, title: str = DRAGON["title"], **fields: Any
) -> dict[str, Any]:
    """Publish an article and return it as it was answered."""
    body = {"article": {**DRAGON, "title": title, **fields}}
    answer = await client.post("/api/articles", body, token=token)
    assert answer.status == 201, answer
    article: dict[str, Any] = answer.body["article"]
    return article


async def say(client: Client, token: str, slug: str, body: str = "Thank you!") -> dict[str, Any]:
    """Comment on an article and return the comment as it was answered."""
    answer = await client.post(
        f"/api/articles/{slug}/comments", {"comment": {"body": body}}, token=token
    )
    assert answer.status == 201, answer
    comment: dict[str, Any] = answer.body["comment"]
    return comment


async def longest_author(client: Client, name: str) -> str:
    """Register ``name`` with the longest profile that the strict dialect allows; its token."""
    token = await client.register(name)
    changes = {
        "username": "🐘" * 50,
        "bio": LONGEST_IN_JSON * 500,
        "image": LONGEST_IN_JSON * 2048,
    }
    answer = await client.put("/api/user", {"user": changes}, token=token)
    assert answer.status == 200, answer
    return token


async def all_pages(
    client: Client, path: str, name: str, *, token: str | None = None
) -> list[Answer]:
    """Every page of a list up to the empty one, each asked for where the last one ended.

    Holds that none is larger than it may be. ``name`` is the list's key in the body.
    """
    pages: list[Answer] = []
    offset = 0
    while not pages or pages[-1].body[name]:
        mark = "&" if "?" in path else "?"
        pages.append(await client.get(f"{path}{mark}offset={offset}", token=token))
        assert pages[-1].status == 200, pages[-1]
        assert int(pages[-1].headers["Content-Length"]) <= LARGEST_ANSWER
        offset += len(pages[-1].body[name])
    return pages


async def follow(client: Client, token: str, *names: str) -> None:
    """Follow the users of these names."""
    for name in names:
        answer = await client.post(f"/api/profiles/{name}/follow", token=token)
        assert answer.status == 200, answer


async def like(client: Client, token: str, *slugs: str) -> None:
    """Make the articles favorites."""
    for slug in slugs:
        answer = await client.post(f"/api/articles/{slug}/favorite", token=token)
        assert answer.status == 200, answer


async def close_account(client: Client, token: str, name: str) -> None:
    """Delete an account that ``Client.register`` opened."""
    body = {"user": {"password": f"{name}-secret"}}
    assert (await client.delete("/api/user", body, token=token)).status == 204


async def until_removed(client: Client) -> None:
    """Return once nothing is left of the accounts that were closed."""
    app: Any = client.http.server.app  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        # It returns False while the background task is at it.
        while not await app[CLOSED_ACCOUNTS].remove_all():
            pass


def profile(
    name: str, bio: str | None = "", *, image: str | None = None, following: bool = False
) -> dict[str, Any]:
    """A profile as it should be answered."""
    return {"username": name, "bio": bio, "image": image, "following": following}


def article_like(
    answered: dict[str, Any], author: dict[str, Any], slug: str, **changes: Any
) -> dict[str, Any]:
    """The dragon article as it should be answered; its times are those of ``answered``.

    Holds that these are times. Without ``body`` where ``changes`` say ``body=None``.
    """
    assert TIME.fullmatch(answered["createdAt"])
    assert TIME.fullmatch(answered["updatedAt"])
    expected = {
        **DRAGON,
        "slug": slug,
        "createdAt": answered["createdAt"],
        "updatedAt": answered["updatedAt"],
        "favorited": False,
        "favoritesCount": 0,
        "author": author,
        **changes,
    }
    if expected["body"] is None:
        del expected["body"]
    return expected


def slugs_of(answer: Answer) -> list[str]:
    """The slugs of the articles in a list."""
    assert answer.status == 200, answer
    return [article["slug"] for article in answer.body["articles"]]
