"""Load SQL from plain files into namespaces of callable queries.

``sql/accounts/users.sql`` becomes ``sql.users``. Each query in it starts with a header ::

    -- name: find_id(email_key) -> value

and is called as ``await sql.users.find_id(db, email_key=...)``, where ``db`` is the
``Database`` or a connection. The header declares the result:

========  ==========================================
``one``   one record: the statement always returns a row
``row``   one record, or ``None``
``rows``  a list of records
``value`` the first column of the first row, or ``None``
``none``  ``None``; the statement is only executed
========  ==========================================

``load`` and ``parse`` raise ``SqlError`` when one file contains two queries of the same name, when
two folders contain files of the same name, or when a header does not match its placeholders.
"""

import re
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

METHODS = {
    "one": "fetchrow",
    "row": "fetchrow",
    "rows": "fetch",
    "value": "fetchval",
    "none": "execute",
}

# The list of parameters may continue on further comment lines.
_HEADER = re.compile(r"^-- name: *((?:[^\n()]*\((?:[^\n()]|\n-- )*\))?.*)$", re.MULTILINE)
_CONTINUATION = re.compile(r"\n-- *")
_SIGNATURE = re.compile(r"([a-z_][a-z0-9_]*)\(([a-z0-9_, ]*)\) -> (one|row|rows|value|none)")
_COMMENT = re.compile(r"--[^\n]*")
_BLOCK_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_LOCKING = re.compile(r"\bfor (no key )?(update|share|key share)\b")


# Match the tables whose rows are cached, with or without quotes and a schema.
_CACHED = r'(?:only\s+)?(?:[\w"$]+\s*\.\s*)?(?:"(?:users|sessions)"|(?:users|sessions)(?![\w$]))'
# A plain insert does not invalidate: a missing row is never cached. An insert with `do update`
# does. `do update` belongs to the last insert before it.
_INVALIDATING = re.compile(
    rf"\b(?:update|delete\s+from|merge\s+into)\s+{_CACHED}"
    rf"|\binsert\s+into\s+{_CACHED}(?:(?!\binsert\b).)*\bdo\s+update\b"
    r"|\btruncate\b",
    re.DOTALL | re.IGNORECASE,
)


class SqlError(Exception):
    """A file of queries cannot be loaded. The message names the file and the error in it."""


class Runner(Protocol):
    """The interface of ``Database``, which runs a query and retries it."""

    def run(self, query: "Query", arguments: list[Any]) -> Coroutine[Any, Any, Any]:
        """Run ``query`` with ``arguments`` in the order of its parameters; return its result."""


Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy
AnyQuery: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]
"""The type of a query that is passed as a value. Its parameters are checked only at the call."""


@dataclass(frozen=True, slots=True)
class Query:
    """One named, callable statement.

    ``returns`` is the result in the header, and ``method`` the method of asyncpg for it.
    ``is_read_only`` is true when the statement changes nothing, so that it may be retried after a
    lost connection. ``invalidates`` is true when it may change or delete rows of ``users`` or
    ``sessions``, which processes cache.
    """

    name: str
    text: str
    parameters: tuple[str, ...]
    returns: str
    is_read_only: bool
    invalidates: bool

    @property
    def method(self) -> str:
        """Return the name of the method of asyncpg that returns what ``returns`` names."""
        return METHODS[self.returns]

    def __call__(self, db: "Runner | Connection", **arguments: Any) -> Coroutine[Any, Any, Any]:
        """Run on ``db`` with one keyword argument for each parameter of the header.

        Raise ``TypeError`` for a missing or an unknown argument, and the errors of ``db``.
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
            result: Coroutine[Any, Any, Any] = getattr(db, self.method)(self.text, *values)
        else:
            result = db.run(self, values)
        return result if _wrap is None else _wrap(self, result)


_CALLS: ContextVar[list[Query] | None] = ContextVar("calls", default=None)

Wrapper: TypeAlias = Callable[[Query, Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]
_wrap: Wrapper | None = None


def wrap_calls(wrapper: Wrapper | None) -> None:
    """Return from each later call of a query what ``wrapper`` makes of its coroutine.

    ``None`` returns the coroutines themselves.
    """
    global _wrap
    _wrap = wrapper


def collect_invalidating_calls() -> list[Query]:
    """Return a list to which each called query that invalidates is appended.

    Collect the calls of the current context and of every task that is started in it.
    """
    calls: list[Query] = []
    _CALLS.set(calls)
    return calls


def discard_invalidating_calls() -> None:
    """Forget the collected calls: they have invalidated nothing.

    Call this when the result of the only such query shows that no cached row changed.
    """
    if (calls := _CALLS.get()) is not None:
        calls.clear()


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
    """Return the queries in ``text``. Raise ``SqlError``, which names ``path``, on an error."""
    pieces = _HEADER.split(text)
    if _COMMENT.sub("", pieces[0]).strip():
        raise SqlError(f"{path}: a statement stands before the first header")
    queries: dict[str, Query] = {}
    for header, body in zip(pieces[1::2], pieces[2::2], strict=True):
        signature = _CONTINUATION.sub(" ", header).strip()
        match = _SIGNATURE.fullmatch(signature)
        if match is None:
            raise SqlError(f"{path}: the header {signature!r} is not name(parameters) -> row")
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
        # Only a plain select is retried: `with` may contain an insert, `for update` acquires locks.
        is_read_only = bool(re.match(r"select\b", code)) and not _LOCKING.search(code)
        invalidates = bool(_INVALIDATING.search(_BLOCK_COMMENT.sub(" ", code)))
        queries[name] = Query(name, statement, parameters, returns, is_read_only, invalidates)
    return Namespace(queries)


def load(root: Path) -> dict[str, Namespace]:
    """Return the queries of every ``*/*.sql`` below ``root``, by the file's name without ".sql"."""
    loaded: dict[str, Namespace] = {}
    for path in sorted(root.glob("*/*.sql")):
        if path.stem in loaded:
            raise SqlError(f"{path}: another folder has a file of this name")
        loaded[path.stem] = parse(path, path.read_text(encoding="utf-8"))
    return loaded
