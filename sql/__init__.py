"""The SQL of the service, as typed namespaces.

``sql/accounts/users.sql`` is ``sql.users``; each query in it is a function of that namespace.
``sql.loader`` describes the form of the files. ``__init__.pyi`` declares every query with its
parameters and its result; ``python -m sql.stubs`` writes it from the files.
"""

from pathlib import Path

from sql.loader import (
    AnyQuery,
    Connection,
    Namespace,
    Query,
    Runner,
    SqlError,
    collect_invalidating_calls,
    discard_invalidating_calls,
    load,
    parse,
    wrap_calls,
)

__all__ = [
    "NAMESPACES",
    "AnyQuery",
    "Connection",
    "Namespace",
    "Query",
    "Runner",
    "SqlError",
    "collect_invalidating_calls",
    "discard_invalidating_calls",
    "parse",
    "wrap_calls",
]

NAMESPACES = load(Path(__file__).parent)


def __getattr__(name: str) -> Namespace:
    try:
        return NAMESPACES[name]
    except KeyError:
        raise AttributeError(f"sql has no file named {name}.sql") from None
