"""Register routes with their authentication, inputs and responses."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import voluptuous as vol
from aiohttp import web

from service.http.errors import ApiError
from service.http.openapi.schemas import ByDialect
from service.http.parameters import QueryString

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


class Auth(Enum):
    """The authentication that a route requires."""

    REQUIRED = "required"
    """Reject a request without a valid token with 401. The handler does not run."""

    OPTIONAL = "optional"
    """Handle a request without a valid token as anonymous."""

    NONE = "none"
    """Ignore the token."""

    KEY = "key"
    """Require an API key that has the scope of the route. Tokens of users are rejected."""


@dataclass(frozen=True)
class Operation:
    """The description of a route for the OpenAPI document.

    ``auth``, ``scope``, ``fresh``, ``role``, ``setup``, ``body``, ``pages`` and ``form`` also
    control how a request is handled.
    """

    operation_id: str
    """The ``operationId`` in the OpenAPI document. Generated clients name a method after it."""
    auth: Auth
    scope: str | None
    """The scope that the API key must have. Only with ``Auth.KEY``, which requires it."""
    fresh: bool
    """Whether the person must have proved lately who they are. Only with ``Auth.REQUIRED``."""
    role: str | None
    """The role that the user must have. Only with ``Auth.REQUIRED``."""
    setup: bool
    """Whether a user who must set up a second factor first may use the route."""
    body: vol.Schema | ByDialect | None
    """The validator of the request body, used by ``read_body``."""
    query: QueryString | None
    """The reader of the query string. The handler uses the same object."""
    responses: Mapping[Any, Any]
    """The schema of the response body by status, or ``None`` for a response without a body."""
    errors: Collection[ApiError]
    """Examples of the errors that the handler raises itself.

    The errors of authentication, of ``read_body`` and of a lost database follow from the other
    fields.
    """
    parameters: Mapping[str, Any]
    """The schemas of the path parameters. A parameter without a schema is a string."""
    pages: bool
    """Whether people use the route in a browser.

    Then its body may be a form, and its errors may be pages.
    """
    form: bool
    """Whether the body is a form, as OAuth requires, and not JSON."""
    tag: str
    """The tag in the OpenAPI document. ``""`` means the name of the handler's module."""


class RouteTableDef(web.RouteTableDef):
    """aiohttp's route table, with the flag ``auth`` and the data for the OpenAPI document.

    The default is ``Auth.REQUIRED``: a route whose flag was forgotten rejects requests without a
    valid token.
    """

    def __init__(self, tag: str = "") -> None:
        """Create a table whose routes have the OpenAPI tag ``tag``."""
        super().__init__()
        self._tag = tag

    def route(
        self,
        method: str,
        path: str,
        *,
        operation_id: str = "",
        auth: Auth = Auth.REQUIRED,
        scope: str | None = None,
        fresh: bool = False,
        role: str | None = None,
        setup: bool = False,
        body: vol.Schema | ByDialect | None = None,
        query: QueryString | None = None,
        responses: Mapping[Any, Any] | None = None,
        errors: Collection[ApiError] = (),
        parameters: Mapping[str, Any] | None = None,
        pages: bool = False,
        form: bool = False,
        **kwargs: Any,
    ) -> Callable[[_Handler], _Handler]:
        """Return a decorator that registers a handler. ``Operation`` describes the arguments.

        Raise ``ValueError`` if a route is ``fresh`` or has a ``role`` and does not require a user,
        or has a ``scope`` and does not require a key, or the reverse. The decorator raises
        ``ValueError`` if a handler has two routes with different flags.
        """
        if (fresh or role is not None) and auth is not Auth.REQUIRED:
            raise ValueError(f"{path} requires fresh proof or a role, so it must require a user")
        if (auth is Auth.KEY) is (scope is None):
            raise ValueError(f"{path} must have both a scope and Auth.KEY, or none of them")
        register = super().route(method, path, **kwargs)
        operation = Operation(
            operation_id,
            auth,
            scope,
            fresh,
            role,
            setup,
            body,
            query,
            responses or {},
            errors,
            parameters or {},
            pages,
            form,
            self._tag,
        )

        def mark(handler: Any) -> Any:
            if getattr(handler, "operation", operation) != operation:
                raise ValueError(f"{handler.__name__} has two routes with different flags")
            handler.operation = operation
            return register(handler)

        return mark


def operation_of(request: web.Request) -> Operation | None:
    """Return the operation of the matched route, or ``None`` for aiohttp's own routes."""
    return getattr(request.match_info.handler, "operation", None)
