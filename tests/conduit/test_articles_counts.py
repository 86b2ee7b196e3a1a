"""Kept counts are exact after random requests, one by one and concurrently."""

import asyncio
import random
from collections import Counter

import asyncpg
import pytest

from tests.conduit.content import DRAGON, wait_until_removed
from tests.conduit.counts import find_wrong_counts
from tests.conftest import Client, Response

TAGS = ["a", "b", "c", "d", "e"]
WORKERS = 8
STEPS = 80


class Player:
    """Send random requests as one user. After the deletion of the account, register another one."""

    def __init__(self, client: Client, number: int, slugs: list[str]) -> None:
        self.client = client
        self.random = random.Random(number)
        self.number = number
        self.accounts = 0
        self.token = ""
        self.slugs = slugs
        self.own: list[str] = []
        self.seen: Counter[tuple[str, int]] = Counter()

    @property
    def name(self) -> str:
        return f"player{self.number}n{self.accounts}"

    async def begin(self) -> None:
        self.accounts += 1
        self.own = []
        self.token = await self.client.register(self.name)

    def some_tags(self) -> list[str]:
        return self.random.sample(TAGS, self.random.randrange(len(TAGS) + 1))

    def some_slug(self) -> str:
        return self.random.choice(self.slugs) if self.slugs else "none"

    def likely_own_slug(self) -> str:
        """Return the slug of an article that this user may change, in most cases."""
        return (
            self.random.choice(self.own)
            if self.own and self.random.random() < 0.7
            else self.some_slug()
        )

    async def step(self) -> None:
        """Send one random request. Assert that it is no server error."""
        actions = [self.publish, self.like, self.unlike, self.retag, self.remove, self.comment]
        action = self.random.choices(actions, [6, 8, 4, 4, 2, 2])[0]
        if self.random.random() < 0.04:
            action = self.leave
        response = await action()
        assert response.status < 500, (action.__name__, response)
        self.seen[action.__name__, response.status] += 1

    async def publish(self) -> Response:
        title = f"Title {self.random.randrange(4)}"
        body = {"article": {**DRAGON, "title": title, "tagList": self.some_tags()}}
        response = await self.client.post("/api/articles", body, token=self.token)
        if response.status == 201:
            self.slugs.append(response.body["article"]["slug"])
            self.own.append(response.body["article"]["slug"])
        return response

    async def like(self) -> Response:
        path = f"/api/articles/{self.some_slug()}/favorite"
        return await self.client.post(path, token=self.token)

    async def unlike(self) -> Response:
        path = f"/api/articles/{self.some_slug()}/favorite"
        return await self.client.delete(path, token=self.token)

    async def retag(self) -> Response:
        changes = {"tagList": self.some_tags(), "title": f"Title {self.random.randrange(4)}"}
        path = f"/api/articles/{self.likely_own_slug()}"
        return await self.client.put(path, {"article": changes}, token=self.token)

    async def remove(self) -> Response:
        return await self.client.delete(f"/api/articles/{self.likely_own_slug()}", token=self.token)

    async def comment(self) -> Response:
        path = f"/api/articles/{self.some_slug()}/comments"
        return await self.client.post(path, {"comment": {"body": "x"}}, token=self.token)

    async def leave(self) -> Response:
        body = {"user": {"password": f"{self.name}-secret"}}
        response = await self.client.delete("/api/user", body, token=self.token)
        await self.begin()
        return response


async def play(player: Player, steps: int) -> None:
    for _ in range(steps):
        await player.step()


async def check_lists(client: Client, db: asyncpg.Connection) -> None:
    """Assert that the kept counts are exact, and that the lists show them."""
    # The removal of a closed account would change the counts between two queries.
    await wait_until_removed(client)
    assert await find_wrong_counts(db) == []
    response = await client.get("/api/articles?limit=1")
    assert response.body["articlesCount"] == await db.fetchval("select count(*) from articles")
    for tag in TAGS:
        response = await client.get(f"/api/articles?limit=1&tag={tag}")
        counted = await db.fetchval("select count(*) from articles where $1 = any (tag_list)", tag)
        assert response.body["articlesCount"] == counted


async def test_counts_are_exact_after_each_request(client: Client, db: asyncpg.Connection) -> None:
    players = [Player(client, number, []) for number in range(3)]
    for player in players:
        player.slugs = players[0].slugs
        await player.begin()
    for step in range(90):
        await players[step % 3].step()
        assert await find_wrong_counts(db) == []
    await check_lists(client, db)
    assert len(players[0].seen) >= 5


@pytest.mark.parametrize("round_", range(2))
async def test_counts_are_exact_after_concurrent_requests(
    client: Client, db: asyncpg.Connection, round_: int
) -> None:
    slugs: list[str] = []
    players = [Player(client, 100 * (round_ + 1) + n, slugs) for n in range(WORKERS)]
    await asyncio.gather(*[player.begin() for player in players])
    await asyncio.gather(*[play(player, STEPS) for player in players])
    await check_lists(client, db)
    seen: Counter[tuple[str, int]] = sum([player.seen for player in players], Counter())
    for action in [
        ("publish", 201),
        ("like", 200),
        ("retag", 200),
        ("remove", 204),
        ("leave", 204),
    ]:
        assert seen[action], "each action must succeed at least once"


async def test_counts_are_exact_when_requests_race_with_a_deletion(
    client: Client, db: asyncpg.Connection, alice: str, bob: str
) -> None:
    for _ in range(8):
        response = await client.post("/api/articles", {"article": DRAGON}, token=bob)
        path = f"/api/articles/{response.body['article']['slug']}"
        responses = await asyncio.gather(
            client.post(f"{path}/favorite", token=bob),
            client.post(f"{path}/favorite", token=alice),
            client.put(path, {"article": {"title": "Other", "tagList": []}}, token=bob),
            client.delete(path, token=bob),
            client.delete(path, token=bob),
            client.post(f"{path}/comments", {"comment": {"body": "x"}}, token=alice),
            client.post(f"{path}/favorite", token=alice),
            client.delete(f"{path}/favorite", token=bob),
        )
        assert all(response.status in (200, 201, 204, 404) for response in responses), responses
        await check_lists(client, db)
    assert await db.fetchval("select count(*) from articles") == 0
