"""The SQL of the service: plain files, loaded into typed namespaces at import.

``sql/accounts/users.sql`` becomes ``sql.users``; a query in it starts with a header ::

    -- name: find_id(email_key) -> value

and is called as ``await sql.users.find_id(db, email_key=...)``, where ``db`` is the
``Database`` or a connection. What comes back:

========  ==========================================
``row``   one record, or ``None``
``rows``  a list of records
``value`` the first column of the first row, or ``None``
``none``  ``None``; the statement is only carried out
========  ==========================================

Two queries of one name, a header that does not match its placeholders, or a file that two folders
share by name stop the import with ``SqlError``.
"""

import re
from collections.abc import Awaitable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

METHODS = {"row": "fetchrow", "rows": "fetch", "value": "fetchval", "none": "execute"}

_HEADER = re.compile(r"^-- name: *(.*)$", re.MULTILINE)
_SIGNATURE = re.compile(r"([a-z_][a-z0-9_]*)\(([a-z0-9_, ]*)\) -> (row|rows|value|none)")
_COMMENT = re.compile(r"--[^\n]*")
_BLOCK_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_LOCKING = re.compile(r"\bfor (no key )?(update|share|key share)\b")


# The tables whose rows processes cache, with or without quotes and a schema.
_CACHED = r'(?:only\s+)?(?:[\w"$]+\s*\.\s*)?(?:"(?:users|sessions)"|(?:users|sessions)(?![\w$]))'
# An insert alone does not count: that a row is missing is never cached. One that turns into an
# update does; `do update` belongs to the last insert before it.
_INVALIDATING = re.compile(
    rf"\b(?:update|delete\s+from|merge\s+into)\s+{_CACHED}"
    rf"|\binsert\s+into\s+{_CACHED}(?:(?!\binsert\b).)*\bdo\s+update\b"
    r"|\btruncate\b",
    re.DOTALL | re.IGNORECASE,
)


class SqlError(Exception):
    """A file of queries that cannot be loaded; says the file and what is wrong in it."""


class Runner(Protocol):
    """What runs a query with retries of its own: the ``Database``."""

    def run(self, query: "Query", arguments: list[Any]) -> Awaitable[Any]: ...


Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement, to be called.

    ``method`` is asyncpg's method that returns what the header promises. ``is_read_only`` tells
    whether the statement changes nothing and may be repeated after a lost connection;
    ``invalidates`` whether it may change or delete rows of ``users`` or ``sessions``, which
    processes cache.
    """

    name: str
    text: str
    parameters: tuple[str, ...]
    method: str
    is_read_only: bool
    invalidates: bool

    def __call__(self, db: "Runner | Connection", **arguments: Any) -> Awaitable[Any]:
        """Run on ``db`` with one keyword argument for each parameter of the header.

        Raises ``TypeError`` on a missing or an unknown argument, and what ``db`` raises.
        """
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {self.parameters}, not {tuple(arguments)}")
        try:
            values = [arguments[parameter] for parameter in self.parameters]
        except KeyError as error:
            raise TypeError(f"{self.name} lacks the argument {error}") from None
        if self.invalidates and (calls := _CALLS.get()) is not None:
            calls.append(self)
        if isinstance(db, Connection):
            result: Awaitable[Any] = getattr(db, self.method)(self.text, *values)
            return result
        return db.run(self, values)


_CALLS: ContextVar[list[Query] | None] = ContextVar("calls", default=None)


def collect_invalidating_calls() -> list[Query]:
    """Return a list to which each call of a query that invalidates is added.

    Collects the calls of the current context and of every task that is started in it.
    """
    calls: list[Query] = []
    _CALLS.set(calls)
    return calls


class Namespace:
    """The queries of one file, as attributes."""

    def __init__(self, queries: dict[str, Query]) -> None:
        self._queries = queries

    def __getattr__(self, name: str) -> Query:
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(f"no query is named {name}") from None

    def __iter__(self) -> Iterator[Query]:
        return iter(self._queries.values())


def parse(path: Path, text: str) -> Namespace:
    """The queries in ``text``; ``path`` names them in errors. Raises ``SqlError``."""
    pieces = _HEADER.split(text)
    if _COMMENT.sub("", pieces[0]).strip():
        raise SqlError(f"{path}: a statement stands before the first header")
    queries: dict[str, Query] = {}
    for header, body in zip(pieces[1::2], pieces[2::2], strict=True):
        match = _SIGNATURE.fullmatch(header.strip())
        if match is None:
            raise SqlError(f"{path}: the header {header!r} is not name(parameters) -> row")
        name, listed, returns = match.groups()
        if name in queries:
            raise SqlError(f"{path}: {name} is defined twice")
        statement = body.strip().removesuffix(";")
        code = _COMMENT.sub("", statement).strip()
        if not code:
            raise SqlError(f"{path}: {name} has no statement")
        parameters = tuple(part.strip() for part in listed.split(",") if part.strip())
        placeholders = {int(number) for number in re.findall(r"\$(\d+)", code)}
        if placeholders != set(range(1, len(parameters) + 1)):
            raise SqlError(f"{path}: {name} lists {parameters} but uses {sorted(placeholders)}")
        # A `with` may hide an insert, a `for update` takes locks: only a plain select is repeated.
        is_read_only = bool(re.match(r"select\b", code)) and not _LOCKING.search(code)
        invalidates = bool(_INVALIDATING.search(_BLOCK_COMMENT.sub(" ", code)))
        queries[name] = Query(
            name, statement, parameters, METHODS[returns], is_read_only, invalidates
        )
    return Namespace(queries)


def _load() -> dict[str, Namespace]:
    loaded: dict[str, Namespace] = {}
    for path in sorted(Path(__file__).parent.glob("*/*.sql")):
        if path.stem in loaded:
            raise SqlError(f"{path}: another folder has a file of this name")
        loaded[path.stem] = parse(path, path.read_text(encoding="utf-8"))
    return loaded


NAMESPACES = _load()


def __getattr__(name: str) -> Namespace:
    try:
        return NAMESPACES[name]
    except KeyError:
        raise AttributeError(f"sql has no file named {name}.sql") from None
