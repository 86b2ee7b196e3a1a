"""Kept counts are exact whatever happens, in whatever order, at once."""

import asyncio
import random
from collections import Counter

import asyncpg
import pytest

from tests.conduit.counts import find_wrong_counts
from tests.conduit.writing import DRAGON, until_removed
from tests.conftest import Answer, Client

TAGS = ["a", "b", "c", "d", "e"]
WORKERS = 8
STEPS = 80


class Player:
    """One user at a time, who does something at random; a deleted one comes back as another."""

    def __init__(self, client: Client, number: int, slugs: list[str]) -> None:
        self.client = client
        self.dice = random.Random(number)
        self.number = number
        self.lives = 0
        self.token = ""
        self.slugs = slugs
        self.own: list[str] = []
        self.seen: Counter[tuple[str, int]] = Counter()

    @property
    def name(self) -> str:
        return f"player{self.number}life{self.lives}"

    async def begin(self) -> None:
        self.lives += 1
        self.own = []
        self.token = await self.client.register(self.name)

    def some_tags(self) -> list[str]:
        return self.dice.sample(TAGS, self.dice.randrange(len(TAGS) + 1))

    def some_slug(self) -> str:
        return self.dice.choice(self.slugs) if self.slugs else "none"

    def likely_own_slug(self) -> str:
        """Of an article that this user may change, more often than not."""
        return (
            self.dice.choice(self.own)
            if self.own and self.dice.random() < 0.7
            else self.some_slug()
        )

    async def step(self) -> None:
        """One request, or two."""
        acts = [self.publish, self.like, self.unlike, self.retag, self.remove, self.comment]
        act = self.dice.choices(acts, [6, 8, 4, 4, 2, 2])[0]
        if self.dice.random() < 0.04:
            act = self.leave
        answer = await act()
        assert answer.status < 500, (act.__name__, answer)
        self.seen[act.__name__, answer.status] += 1

    async def publish(self) -> Answer:
        title = f"Title {self.dice.randrange(4)}"
        body = {"article": {**DRAGON, "title": title, "tagList": self.some_tags()}}
        answer = await self.client.post("/api/articles", body, token=self.token)
        if answer.status == 201:
            self.slugs.append(answer.body["article"]["slug"])
            self.own.append(answer.body["article"]["slug"])
        return answer

    async def like(self) -> Answer:
        path = f"/api/articles/{self.some_slug()}/favorite"
        return await self.client.post(path, token=self.token)

    async def unlike(self) -> Answer:
        path = f"/api/articles/{self.some_slug()}/favorite"
        return await self.client.delete(path, token=self.token)

    async def retag(self) -> Answer:
        changes = {"tagList": self.some_tags(), "title": f"Title {self.dice.randrange(4)}"}
        path = f"/api/articles/{self.likely_own_slug()}"
        return await self.client.put(path, {"article": changes}, token=self.token)

    async def remove(self) -> Answer:
        return await self.client.delete(f"/api/articles/{self.likely_own_slug()}", token=self.token)

    async def comment(self) -> Answer:
        path = f"/api/articles/{self.some_slug()}/comments"
        return await self.client.post(path, {"comment": {"body": "x"}}, token=self.token)

    async def leave(self) -> Answer:
        body = {"user": {"password": f"{self.name}-secret"}}
        answer = await self.client.delete("/api/user", body, token=self.token)
        await self.begin()
        return answer


async def play(player: Player, steps: int) -> None:
    for _ in range(steps):
        await player.step()


async def check_lists(client: Client, db: asyncpg.Connection) -> None:
    """Hold that kept counts are right, and that the lists say so."""
    # A removal would change the counts between two looks at them.
    await until_removed(client)
    assert await find_wrong_counts(db) == []
    answer = await client.get("/api/articles?limit=1")
    assert answer.body["articlesCount"] == await db.fetchval("select count(*) from articles")
    for tag in TAGS:
        answer = await client.get(f"/api/articles?limit=1&tag={tag}")
        counted = await db.fetchval("select count(*) from articles where $1 = any (tag_list)", tag)
        assert answer.body["articlesCount"] == counted


async def test_counts_are_right_after_every_single_step(
    client: Client, db: asyncpg.Connection
) -> None:
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
async def test_counts_are_right_after_all_of_it_at_once(
    client: Client, db: asyncpg.Connection, round_: int
) -> None:
    slugs: list[str] = []
    players = [Player(client, 100 * (round_ + 1) + n, slugs) for n in range(WORKERS)]
    await asyncio.gather(*[player.begin() for player in players])
    await asyncio.gather(*[play(player, STEPS) for player in players])
    await check_lists(client, db)
    seen: Counter[tuple[str, int]] = sum([player.seen for player in players], Counter())
    for act in [("publish", 201), ("like", 200), ("retag", 200), ("remove", 204), ("leave", 204)]:
        assert seen[act], "the mix must hold some of each"


async def test_requests_to_an_article_that_goes_meanwhile_are_no_fault(
    client: Client, db: asyncpg.Connection, alice: str, bob: str
) -> None:
    for _ in range(8):
        answer = await client.post("/api/articles", {"article": DRAGON}, token=bob)
        path = f"/api/articles/{answer.body['article']['slug']}"
        answers = await asyncio.gather(
            client.post(f"{path}/favorite", token=bob),
            client.post(f"{path}/favorite", token=alice),
            client.put(path, {"article": {"title": "Other", "tagList": []}}, token=bob),
            client.delete(path, token=bob),
            client.delete(path, token=bob),
            client.post(f"{path}/comments", {"comment": {"body": "x"}}, token=alice),
            client.post(f"{path}/favorite", token=alice),
            client.delete(f"{path}/favorite", token=bob),
        )
        assert all(answer.status in (200, 201, 204, 404) for answer in answers), answers
        await check_lists(client, db)
    assert await db.fetchval("select count(*) from articles") == 0
