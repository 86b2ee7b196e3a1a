from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.conduit.seed import AGE, ARTICLES, AUTHORS, SeedError, seed
from service.database.pool import Database
from service.operations.static_files import PICTURES
from tests.conduit.counts import find_wrong_counts
from tests.conftest import Client

URL = "http://localhost:3000"


@pytest.fixture
async def database(database_url: str, db: asyncpg.Connection) -> AsyncIterator[Database]:
    database = Database(database_url, size=2)
    await database.open()
    yield database
    await database.close()


async def log_in(client: Client, name: str, password: str) -> str:
    """Log in the author ``name`` and return the access token."""
    user = {"email": f"{name}@example.test", "password": password}
    return str((await client.post("/api/users/login", {"user": user})).body["user"]["token"])


async def test_seeded_blog_has_articles_of_every_author_and_exact_counts(
    client: Client, database: Database, db: asyncpg.Connection
) -> None:
    reports: list[str] = []
    await seed(database, reports.append, 4, URL)
    assert len(reports) == 1
    body = (await client.get("/api/articles?limit=100")).body
    assert body["articlesCount"] == len(ARTICLES) == len(body["articles"]) > 20
    assert {article["author"]["username"] for article in body["articles"]} == set(AUTHORS)
    assert any(article["favoritesCount"] for article in body["articles"])
    assert await find_wrong_counts(db) == []


async def test_seeded_articles_are_spread_over_the_past_weeks(
    client: Client, database: Database
) -> None:
    await seed(database, lambda _: None, 4, URL)
    articles = (await client.get("/api/articles?limit=100")).body["articles"]
    assert [article["title"] for article in reversed(articles)] == [
        article.title for article in ARTICLES
    ]
    now = datetime.now(UTC)
    ages = [now - datetime.fromisoformat(article["createdAt"]) for article in articles]
    assert timedelta(0) < ages[0] < timedelta(days=2)
    assert AGE - timedelta(days=1) < ages[-1] <= AGE + timedelta(minutes=1)
    assert len({age.days for age in ages}) > 20
    for article in articles:
        comments = (await client.get(f"/api/articles/{article['slug']}/comments")).body["comments"]
        dates = [comment["createdAt"] for comment in comments]
        assert all(article["createdAt"] <= date <= now.isoformat() for date in dates)


async def test_every_author_can_log_in_and_has_a_feed(client: Client, database: Database) -> None:
    password = await seed(database, lambda _: None, 4, URL)
    for name in AUTHORS:
        token = await log_in(client, name, password)
        assert (await client.get("/api/articles/feed", token=token)).body["articlesCount"] > 0


async def test_author_picture_is_served_by_the_service(client: Client, database: Database) -> None:
    await seed(database, lambda _: None, 4, URL)
    assert set(PICTURES) == set(AUTHORS)
    for name in AUTHORS:
        image = (await client.get(f"/api/profiles/{name}")).body["profile"]["image"]
        assert image.startswith(f"{URL}/")
        async with client.http.get(urlsplit(image).path) as response:
            assert (response.status, response.content_type) == (200, "image/svg+xml")


async def test_author_can_send_back_the_unchanged_profile(
    dialect_client: Client, database: Database
) -> None:
    """The settings page of a front-end sends every field, also the picture."""
    password = await seed(database, lambda _: None, 4, URL)
    token = await log_in(dialect_client, "anna", password)
    user = (await dialect_client.get("/api/user", token=token)).body["user"]
    fields = {name: user[name] for name in ("username", "email", "bio", "image")}
    response = await dialect_client.put("/api/user", {"user": fields}, token=token)
    assert response.status == 200
    assert {name: response.body["user"][name] for name in fields} == fields


async def test_database_with_users_is_not_seeded(
    client: Client, database: Database, alice: str
) -> None:
    with pytest.raises(SeedError, match="not empty"):
        await seed(database, lambda _: None, 4, URL)
    assert (await client.get("/api/articles")).body["articlesCount"] == 0
    assert (await client.get("/api/profiles/anna")).status == 404
