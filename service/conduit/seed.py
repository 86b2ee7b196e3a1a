"""A small, realistic example blog. ``python run.py seed`` writes it to an empty database."""

import random
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg
import bcrypt

import sql
from service.accounts import fields
from service.conduit.articles import slug_of
from service.database.pool import Database

PEOPLE = {
    "anna": "I bake, and I write down what went wrong.",
    "marek": "Cyclist. Will fix your bicycle for coffee.",
    "yuki": "Translating small things between large languages.",
    "samira": "Gardens on roofs, and the mathematics of soil.",
    "jonas": "Night photographs of empty stations.",
    "ines": None,
    "tobias": "I keep bees. The bees keep me.",
    "leila": "Databases by day, bread by night.",
}

ARTICLES = [
    ("Bread that forgives", "A loaf for people who forget about it", ["baking", "bread", "home"]),
    ("What a chain wants", "Listening to a bicycle before it breaks", ["cycling", "repair"]),
    ("On words without a twin", "Five that I gave up translating", ["language", "translation"]),
    ("Soil is a slow machine", "What happens below a roof garden", ["gardening", "science"]),
    ("The last train, standing still", "How to photograph nobody", ["photography", "night"]),
    ("A hive in the first week", "Notes of a nervous beginner", ["bees", "gardening"]),
    ("Indexes are promises", "What a database may assume, and when", ["databases", "engineering"]),
    ("Sourdough, measured", "Forty loaves and one spreadsheet", ["baking", "bread", "science"]),
    ("Punctures, a taxonomy", "Six holes and what made them", ["cycling", "repair", "science"]),
    ("Letters my grandmother sent", "In three alphabets", ["language", "home"]),
    ("Rain on a flat roof", "Where the water goes, and where not", ["gardening", "home"]),
    ("Long exposures for the impatient", "Thirty seconds are enough", ["photography"]),
    ("Winter for bees", "What they do all those months", ["bees", "science"]),
    ("Counting without counting", "Kept numbers that stay exact", ["databases", "engineering"]),
    ("A kitchen for one", "Nine square metres, everything in reach", ["home", "baking"]),
    ("Riding home in the dark", "Lamps, reflectors, and being seen", ["cycling", "night"]),
]

PARAGRAPHS = [
    "It began, as these things do, with a mistake that turned out better than the plan.",
    "I had read three books about it. None of them mentioned the part that mattered.",
    "## What I tried\n\nFirst the obvious, then its opposite, then a walk around the block.",
    "> Whoever is in a hurry should not start here.",
    "1. Wait.\n2. Look again.\n3. Change one thing only.",
    "The numbers are at the end. They are less interesting than what I saw on the way.",
    "If you do it differently, write to me. I collect exceptions.",
]

COMMENTS = [
    "This made me try it, and it worked.",
    "I disagree with the third step, but thank you for writing it down.",
    "My neighbour swears by the opposite.",
    "Saved for the weekend.",
    "The photograph alone is worth it.",
    "Could you say more about the beginning?",
]


class SeedError(Exception):
    """Raised if the database cannot be seeded. The message is one sentence."""


async def seed(database: Database, report: Callable[[str], None], cost: int) -> str:
    """Fill an empty database and return the password of all seeded accounts.

    ``cost`` is bcrypt's work factor. Raise ``SeedError`` if there are users already, so that the
    example data never mixes with real data.
    """
    password = secrets.token_urlsafe(9)
    password_hash = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()
    report(f"Writing {len(PEOPLE)} people, {len(ARTICLES)} articles, favourites and comments ...")
    await database.transact(partial(_fill, password_hash))
    return password


async def _fill(password_hash: str, connection: asyncpg.Connection) -> None:
    """Write the blog. Raise ``SeedError`` if there are users already."""
    if await sql.seed.has_users(connection):
        raise SeedError("The database is not empty: seed fills only one without users.")
    chance = random.Random(7)  # noqa: S311 (the same blog every time; only the password is secret)
    people = [await _person(connection, name, password_hash) for name in PEOPLE]
    slugs = [
        await _article(connection, people[number % len(people)], number, chance)
        for number in range(len(ARTICLES))
    ]
    for person in people:
        for name in chance.sample(list(PEOPLE), 3):
            if name != person["username"]:
                await sql.profiles.follow(
                    connection, viewer_id=person["id"], username_key=fields.uniqueness_key(name)
                )
        for slug in chance.sample(slugs, 5):
            await sql.favorites.add(connection, slug=slug, user_id=person["id"])
        for slug in chance.sample(slugs, 3):
            await sql.comments.create(
                connection, slug=slug, author_id=person["id"], body=chance.choice(COMMENTS)
            )


async def _person(connection: asyncpg.Connection, name: str, password_hash: str) -> Any:
    email = f"{name}@example.test"
    row = await sql.users.insert(
        connection,
        username=name,
        username_key=fields.uniqueness_key(name),
        email=email,
        email_key=fields.email_key(email),
        password_hash=password_hash,
    )
    return await sql.seed.introduce(connection, id=row["id"], bio=PEOPLE[name])


async def _article(
    connection: asyncpg.Connection, author: Any, number: int, chance: random.Random
) -> str:
    title, description, tags = ARTICLES[number]
    row = await sql.articles.create(
        connection,
        author_id=author["id"],
        title=title,
        description=description,
        body="\n\n".join(chance.sample(PARAGRAPHS, 5)),
        tag_list=tags,
        slug=slug_of(title),
    )
    assert row is not None, "the author was created in this transaction"
    return str(row["slug"])
