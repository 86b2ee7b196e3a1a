"""Define the parts of the OpenAPI document that all routes share: errors, headers, security."""

from dataclasses import dataclass
from typing import Any

from service import __version__
from service.http.error_codes import ErrorCode
from service.http.openapi.schemas import array_of

INFO = {
    "title": "Conduit Accounts",
    "version": __version__,
    "summary": "User accounts, and the RealWorld API.",
    "description": (
        "Every error has one shape: messages by field for people, a stable `code` for programs. "
        "Fields that a body has beyond those listed are ignored.\n\n"
        "Any path can also answer 404 and 405 to what no route takes, 415 to a `Content-Encoding` "
        "other than `identity`, 417 to an `Expect` header other than `100-continue`, 505 to a "
        "version other than HTTP/1.0 and HTTP/1.1, and 400 to bytes that are not HTTP, all in the "
        "same shape."
    ),
    "license": {"name": "MIT License", "identifier": "MIT"},
}

SECURITY_SCHEMES = {
    "Token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": (
            "The word `Token`, one space, and the `token` of a registration or login: "
            "`Token eyJhbGciOi...`. Enter all of it here."
        ),
    }
}

HEADERS = {
    "X-Request-ID": {
        "description": "The request's id in the log: the client's own, or a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "example": "3f1c9a2b7d4e-1a",
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 2,
    },
    "Accept-Encoding": {
        "description": "The only encoding that a request body may have.",
        "schema": {"type": "string", "const": "identity"},
        "example": "identity",
    },
    "WWW-Authenticate": {
        "description": "The scheme that would be accepted.",
        "schema": {"type": "string", "const": "Token"},
        "example": "Token",
    },
}

ANY_ERROR = {
    "type": "object",
    "description": "Messages by the field or subject that they are about, and a stable code.",
    "properties": {
        "errors": {
            "type": "object",
            "additionalProperties": {**array_of({"type": "string"}), "minItems": 1},
            "minProperties": 1,
            "examples": [{"email": ["can't be blank"]}],
        },
        "code": {
            "type": "string",
            "enum": list(ErrorCode),
            "description": "\n".join(
                f"- `{code}` ({code.status}): {code.meaning}" for code in ErrorCode
            ),
            "examples": [ErrorCode.INVALID_INPUT],
        },
    },
    "required": ["errors", "code"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class SharedError:
    """An error response that all routes share. The OpenAPI document defines it once."""

    name: str
    description: str
    code: str
    subject: str
    message: str
    headers: tuple[str, ...] = ()

    @property
    def example(self) -> dict[str, Any]:
        """Return an example body in the common error shape."""
        return {"errors": {self.subject: [self.message]}, "code": self.code}


_INVALID = SharedError(
    "InvalidInput", "Every faulty field is named.", "invalid_input", "email", "can't be blank"
)

ERRORS = {
    400: _INVALID,
    401: SharedError(
        "Unauthorized",
        "Wrong credentials, or no token that counts.",
        *("token_missing", "token", "is missing"),
        headers=("WWW-Authenticate",),
    ),
    403: SharedError(
        "Forbidden",
        "Signed in, but it is another's.",
        *("forbidden", "article", "forbidden"),
    ),
    404: SharedError("NotFound", "No such thing.", "not_found", "article", "not found"),
    408: SharedError(
        "RequestTimeout",
        "The body took too long to arrive.",
        *("request_timeout", "body", "took too long to arrive"),
    ),
    409: SharedError(
        "Conflict",
        "Taken; every field whose value is taken is named.",
        *("already_taken", "email", "has already been taken"),
    ),
    413: SharedError(
        "BodyTooLarge", "The body is over the limit.", "body_too_large", "body", "is too large"
    ),
    415: SharedError(
        "UnsupportedEncoding",
        "The body has a `Content-Encoding`, such as gzip.",
        *(
            "content_encoding_not_supported",
            "body",
            "must be sent without a Content-Encoding",
        ),
        headers=("Accept-Encoding",),
    ),
    422: _INVALID,
    429: SharedError(
        "TooManyRequests",
        "Too many attempts.",
        *("too_many_attempts", "credentials", "too many attempts"),
        headers=("Retry-After",),
    ),
    500: SharedError(
        "InternalError",
        "A fault of ours; the log has it under the request's id.",
        *("internal_error", "server", "internal error"),
    ),
    503: SharedError(
        "Unavailable",
        "The database or the password workers cannot take the request now.",
        *("database_unavailable", "database", "is not available"),
        headers=("Retry-After",),
    ),
}
