"""Registration, login, and the account of the one who asks."""

import contextlib
from collections.abc import Mapping
from typing import Any

import asyncpg
from aiohttp import web

import sql
from service.accounts import fields
from service.accounts.identity import TOKENS, User
from service.accounts.passwords import PASSWORDS
from service.database.pool import DATABASE
from service.http.errors import SETTINGS, Conflict, Unauthorized, Unavailable
from service.http.responses import json_response
from service.http.routes import Auth, RouteTableDef
from service.http.schemas import ByDialect, Named, nullable, object_of, string
from service.http.validation import read_body, required, something_to_change, wrapped

routes = RouteTableDef(tag="Accounts")

UNIQUE = {"users_username_key": "username", "users_email_key": "email"}

BIO = string(example="I work at statefarm")
IMAGE = nullable(string(example="https://i.stack.imgur.com/xHWG8.jpg", form="uri"))
SIGNED_IN = object_of(
    user=Named(
        "User",
        object_of(
            email=string(example="jake@jake.jake", form="email"),
            token=string(example="eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
            username=string(example="jake"),
            bio=ByDialect(default=BIO, strict=nullable(BIO)),
            image=IMAGE,
        ),
    )
)

REGISTRATION = wrapped(
    "user",
    {
        required("username"): fields.username,
        required("email"): fields.email,
        required("password"): fields.new_password,
    },
)


@routes.post(
    "/api/users",
    auth=Auth.NONE,
    body=REGISTRATION,
    answers={ByDialect(default=200, strict=201): SIGNED_IN},
    errors=(409,),
)
async def register(request: web.Request) -> web.Response:
    """Open an account: 200 (201 strict) with the user, 409 when the name or address is taken."""
    given = (await read_body(request))["user"]
    keys = {
        "username_key": fields.key_of(given["username"]),
        "email_key": fields.key_of(given["email"]),
    }
    await _refuse_taken(request, keys)
    password_hash = await request.app[PASSWORDS].hash(given["password"])
    try:
        row = await sql.users.insert(
            request.app[DATABASE],
            username=given["username"],
            email=given["email"],
            password_hash=password_hash,
            **keys,
        )
    except asyncpg.UniqueViolationError as violation:
        await _refuse_taken(request, keys)
        raise Conflict(UNIQUE[violation.constraint_name]) from None
    status = 201 if request.app[SETTINGS].realworld_strict else 200
    return _signed_in(request, User.of(row), status=status)


LOGIN = wrapped(
    "user",
    {required("email"): fields.given_email, required("password"): fields.given_password},
)


@routes.post(
    "/api/users/login",
    auth=Auth.NONE,
    body=LOGIN,
    answers={200: SIGNED_IN},
    errors=(401,),
)
async def login(request: web.Request) -> web.Response:
    """Sign in: 200 with the user, 401 in the same words and time for every other pair."""
    given = (await read_body(request))["user"]
    database, passwords = request.app[DATABASE], request.app[PASSWORDS]
    row = await sql.users.find_by_email(database, email_key=fields.email_key(given["email"]))
    old_hash = row["password_hash"] if row is not None else None
    if not await passwords.verify(given["password"], old_hash) or row is None:
        raise _wrong_credentials()
    if passwords.is_outdated(row["password_hash"]):
        await _renew_hash(request, row, given["password"])
    return _signed_in(request, User.of(row))


@routes.get("/api/user", answers={200: SIGNED_IN})
async def current(request: web.Request) -> web.Response:
    """The one who asks, with a fresh token."""
    return _signed_in(request, request["user"])


UPDATE = wrapped(
    "user",
    {
        "email": fields.email,
        "username": fields.username,
        "password": fields.new_password,
        "bio": fields.bio,
        "image": fields.image,
    },
    something_to_change,
)


@routes.put("/api/user", body=UPDATE, answers={200: SIGNED_IN}, errors=(409,))
async def update(request: web.Request) -> web.Response:
    """Change the fields that are given: 200 with the user, 409 when a value is taken."""
    given = (await read_body(request))["user"]
    user: User = request["user"]
    keys = {
        f"{name}_key": fields.key_of(given[name]) if name in given else None
        for name in ("username", "email")
    }
    await _refuse_taken(request, keys, except_id=user.id)
    password_hash = None
    if "password" in given:
        password_hash = await request.app[PASSWORDS].hash(given["password"])
    try:
        row = await sql.users.update(
            request.app[DATABASE],
            id=user.id,
            username=given.get("username"),
            email=given.get("email"),
            password_hash=password_hash,
            set_bio="bio" in given,
            bio=given.get("bio"),
            set_image="image" in given,
            image=given.get("image"),
            **keys,
        )
    except asyncpg.UniqueViolationError as violation:
        await _refuse_taken(request, keys, except_id=user.id)
        raise Conflict(UNIQUE[violation.constraint_name]) from None
    if row is None:
        raise Unauthorized("token", "has been revoked", code="token_revoked")
    return _signed_in(request, User.of(row))


DELETION = wrapped("user", {required("password"): fields.given_password})


@routes.delete("/api/user", body=DELETION, answers={204: None})
async def delete(request: web.Request) -> web.Response:
    """Delete the account, after its password: 204, or 401 when the password is wrong."""
    given = (await read_body(request))["user"]
    database, user = request.app[DATABASE], request["user"]
    password_hash = await sql.users.find_password_hash(database, id=user.id)
    if not await request.app[PASSWORDS].verify(given["password"], password_hash):
        raise _wrong_credentials()
    if await sql.users.delete(database, id=user.id, password_hash=password_hash) is None:
        raise _wrong_credentials()
    return web.Response(status=204)


async def _renew_hash(request: web.Request, row: Any, password: str) -> None:
    # A full queue is no reason to refuse the right password: the next login tries again.
    with contextlib.suppress(Unavailable):
        new_hash = await request.app[PASSWORDS].hash(password)
        await sql.users.renew_password_hash(
            request.app[DATABASE], id=row["id"], old_hash=row["password_hash"], new_hash=new_hash
        )


async def _refuse_taken(
    request: web.Request, keys: Mapping[str, str | None], except_id: Any = None
) -> None:
    """Raise ``Conflict`` naming each of the keys that is another user's."""
    if not any(keys.values()):
        return
    taken = await sql.users.taken(request.app[DATABASE], except_id=except_id, **keys)
    if fields_taken := [name for name in ("email", "username") if taken[name]]:
        raise Conflict(*fields_taken)


def _wrong_credentials() -> Unauthorized:
    return Unauthorized("credentials", "invalid", code="invalid_credentials")


def _signed_in(request: web.Request, user: User, *, status: int = 200) -> web.Response:
    strict = request.app[SETTINGS].realworld_strict
    body = {
        "email": user.email,
        "token": request.app[TOKENS].issue(user.id),
        "username": user.username,
        "bio": user.bio if strict else user.bio or "",
        "image": user.image,
    }
    return json_response({"user": body}, status=status)
