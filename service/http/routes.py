"""A route and all that is known of it: who may call it, what it takes, what it answers."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import voluptuous as vol
from aiohttp import web

from service.http.openapi.schemas import ByDialect
from service.http.parameters import QueryString

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


class Auth(Enum):
    """What a route asks of the one who calls it."""

    REQUIRED = "required"
    """Without a valid token the answer is 401 and the handler does not run."""

    OPTIONAL = "optional"
    """Without a valid token the request goes on as nobody's."""

    NONE = "none"
    """The route does not care, and the token is not looked at."""


@dataclass(frozen=True)
class Operation:
    """What the document says of a route; the route itself works by ``auth`` and ``body``."""

    auth: Auth
    body: vol.Schema | ByDialect | None
    """Checks the request's body; ``read_body`` uses it."""
    query: QueryString | None
    """Reads the query string; the handler uses the same."""
    answers: Mapping[Any, Any]
    """The schema of the body by status; ``None`` for an answer without one."""
    errors: Collection[int]
    """Statuses of errors beyond those that follow from the rest."""
    parameters: Mapping[str, Any]
    """The schemas of the parts of the path; one that is not named is a text."""
    tag: str
    """The heading that it stands under; ``""`` is the name of the handler's module."""


class RouteTableDef(web.RouteTableDef):
    """aiohttp's route table, with the flag ``auth`` and what the document needs to know.

    The flag left out is ``Auth.REQUIRED``: forgetting it closes a door rather than opening one.
    """

    def __init__(self, tag: str = "") -> None:
        """``tag`` is the heading that the document puts these routes under."""
        super().__init__()
        self._tag = tag

    def route(
        self,
        method: str,
        path: str,
        *,
        auth: Auth = Auth.REQUIRED,
        body: vol.Schema | ByDialect | None = None,
        query: QueryString | None = None,
        answers: Mapping[Any, Any] | None = None,
        errors: Collection[int] = (),
        parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Callable[[_Handler], _Handler]:
        """Register the handler below; see ``Operation`` for the arguments."""
        register = super().route(method, path, **kwargs)
        operation = Operation(auth, body, query, answers or {}, errors, parameters or {}, self._tag)

        def mark(handler: Any) -> Any:
            if getattr(handler, "operation", operation) != operation:
                raise ValueError(f"{handler.__name__} stands on two routes of different flags")
            handler.operation = operation
            return register(handler)

        return mark


def operation_of(request: web.Request) -> Operation | None:
    """The operation of the route that ``request`` matched; ``None`` for routes of aiohttp's own."""
    return getattr(request.match_info.handler, "operation", None)
