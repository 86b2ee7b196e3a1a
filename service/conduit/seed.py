"""A small, realistic example blog. ``python run.py seed`` writes it to an empty database."""

import random
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import bcrypt

import sql
from service.accounts import fields
from service.conduit.articles import slug_of
from service.database.pool import Database

AUTHORS = {
    "anna": "I bake, and I write down what went wrong.",
    "marek": "Cyclist. I repair your bicycle for a coffee.",
    "yuki": "I translate short stories from three languages.",
    "samira": "Gardens on roofs, and the science of soil.",
    "jonas": "Photographs of train stations at night.",
    "ines": None,
    "tobias": "I keep bees. The bees keep me busy.",
    "leila": "Databases by day, bread by night.",
}
"""The biography of each author. Their pictures are files of ``/static/``."""


class Article(NamedTuple):
    """An article of the example blog, without its text."""

    author: str
    title: str
    description: str
    tags: list[str]


ARTICLES = [
    Article("anna", "A loaf for beginners", "Four ingredients, one evening", ["baking", "bread"]),
    Article("marek", "How to listen to a chain", "It makes noise before it breaks", ["cycling"]),
    Article("yuki", "Five words without a translation", "And what I wrote instead", ["language"]),
    Article("samira", "Soil is alive", "What happens below a garden", ["gardening", "science"]),
    Article("jonas", "The last train", "Photographs of a platform", ["photography", "night"]),
    Article("tobias", "The first week with bees", "Notes of a beginner", ["bees", "gardening"]),
    Article("leila", "What an index promises", "And what it costs", ["databases", "engineering"]),
    Article("ines", "A small kitchen", "Nine square metres, well organized", ["home", "baking"]),
    Article("anna", "Sourdough in numbers", "Forty loaves, one table", ["bread", "science"]),
    Article("marek", "Six kinds of puncture", "And how to repair each", ["cycling", "repair"]),
    Article("yuki", "Letters from my grandmother", "In three alphabets", ["language", "home"]),
    Article("samira", "Rain on a flat roof", "Where the water goes", ["gardening", "home"]),
    Article("jonas", "Long exposures", "Thirty seconds are enough", ["photography"]),
    Article("tobias", "Bees in winter", "How a hive stays warm", ["bees", "science"]),
    Article("leila", "Counting without a count", "Exact totals for every page", ["databases"]),
    Article("ines", "One pot for five days", "Soup from Monday to Friday", ["home", "cooking"]),
    Article("anna", "Rye is different", "Why the dough stays sticky", ["baking", "bread"]),
    Article("marek", "Riding home in the dark", "Lights and reflectors", ["cycling", "night"]),
    Article("yuki", "How I read a dictionary", "From the middle", ["language"]),
    Article("samira", "Tomatoes on the tenth floor", "Wind is the problem", ["gardening"]),
    Article("jonas", "A tripod for ten euros", "Built from a broom", ["photography", "repair"]),
    Article("tobias", "The first honey", "Four jars, all of them sticky", ["bees", "home"]),
    Article("leila", "A deadlock, explained", "Two people, one door", ["databases", "science"]),
    Article("ines", "Shelves without screws", "A weekend project", ["home", "repair"]),
    Article("anna", "Rolls for Sunday", "Prepare them on Saturday", ["baking", "home"]),
    Article("marek", "Cleaning a bicycle in ten minutes", "Start with the chain", ["cycling"]),
    Article("leila", "Bread while a migration runs", "Both need patience", ["databases", "bread"]),
]
"""The articles, oldest first. They fill more than one page of 20."""

PARAGRAPHS = [
    "It began with a mistake. The result was better than my plan.",
    "I had read three books about it. The most important part was in none of them.",
    "## What I tried\n\nFirst I tried the simple way, then the opposite, then I took a walk.",
    "> If you are in a hurry, do not start here.",
    "1. Wait.\n2. Look again.\n3. Change only one thing.",
    "The numbers are at the end. What I saw on the way is more interesting.",
    "If you do it differently, write to me. I collect other ways.",
]

COMMENTS = [
    "I tried it, and it worked.",
    "I disagree with the third step, but thank you for this article.",
    "My neighbour does the opposite.",
    "I will read it again on Saturday.",
    "The photograph is beautiful.",
    "Could you write more about the beginning?",
]

AGE = timedelta(days=40)  # Age of the oldest article.


class SeedError(Exception):
    """Raised if the database cannot be seeded. The message is one sentence."""

    exit_status = 1


async def seed(
    database: Database, report: Callable[[str], None], cost: int, service_url: str
) -> str:
    """Fill an empty database and return the password of all seeded accounts.

    ``cost`` is bcrypt's work factor. ``service_url`` is the URL under which browsers load the
    pictures of the authors. Raise ``SeedError`` if there are users already, so that the example
    data never mixes with real data.
    """
    password = secrets.token_urlsafe(9)
    password_hash = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()
    report(f"Writing {len(AUTHORS)} authors, {len(ARTICLES)} articles and their comments ...")
    await database.transact(lambda connection: _fill(connection, password_hash, service_url))
    return password


async def _fill(connection: asyncpg.Connection, password_hash: str, service_url: str) -> None:
    """Write the blog. Raise ``SeedError`` if there are users already."""
    if await sql.seed.has_users(connection):
        raise SeedError("The database is not empty: seed fills only a database without users.")
    # The blog is the same each time. Only the password is secret.
    chance = random.Random(7)  # noqa: S311
    now = datetime.now(UTC)
    ids = {}
    for name in AUTHORS:
        picture = f"{service_url}/static/{name}.svg"
        ids[name] = await _create_author(connection, name, picture, password_hash)
    published = {}
    for number, article in enumerate(ARTICLES):
        age = AGE * (1 - number / len(ARTICLES)) - timedelta(minutes=chance.randrange(600))
        slug = await _create_article(connection, article, ids[article.author], now - age, chance)
        published[slug] = now - age
    for name, user_id in ids.items():
        for other in chance.sample([other for other in AUTHORS if other != name], 3):
            await sql.profiles.follow(
                connection, viewer_id=user_id, username_key=fields.uniqueness_key(other)
            )
        for slug in chance.sample(list(published), 6):
            await sql.favorites.set(connection, slug=slug, user_id=user_id, is_favorite=True)
        for slug in chance.sample(list(published), 4):
            await sql.seed.create_comment(
                connection,
                slug=slug,
                author_id=user_id,
                body=chance.choice(COMMENTS),
                created_at=published[slug] + chance.random() * (now - published[slug]),
            )


async def _create_author(
    connection: asyncpg.Connection, name: str, picture: str, password_hash: str
) -> Any:
    email = f"{name}@example.test"
    row = await sql.users.insert(
        connection,
        username=name,
        username_key=fields.uniqueness_key(name),
        email=email,
        email_key=fields.email_key(email),
        password_hash=password_hash,
    )
    await sql.seed.introduce(connection, id=row["id"], bio=AUTHORS[name], image=picture)
    return row["id"]


async def _create_article(
    connection: asyncpg.Connection,
    article: Article,
    author_id: Any,
    created_at: datetime,
    chance: random.Random,
) -> str:
    """Write ``article`` and return its slug."""
    slug = slug_of(article.title)
    await sql.seed.create_article(
        connection,
        author_id=author_id,
        title=article.title,
        description=article.description,
        body="\n\n".join(chance.sample(PARAGRAPHS, 5)),
        tag_list=article.tags,
        slug=slug,
        created_at=created_at,
    )
    return slug
