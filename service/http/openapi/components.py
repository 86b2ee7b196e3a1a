"""Define the parts of the OpenAPI document that all routes share: errors, headers, security."""

from service import __version__
from service.http.error_codes import ErrorCode
from service.http.openapi.schemas import array_of

DESCRIPTION = """\
## Try it on this page

1. Register: open `POST /api/users` below, press **Try it out**, then **Execute**.
2. Copy the `token` from the response, without its quotes.
3. Press **Authorize**, paste the token, and press **Authorize** again. The operations with a lock
   now run as this user.

Programs send the token in the header `Authorization: Token <jwt>`.

## Errors

Every error response has the same shape: `errors` has messages for people, by field or subject, and
`code` is for programs. The schema `Error` at the end of this page explains each code. Every
operation lists its own errors. `default` stands for the errors that many operations share:

- 400 (422 with `REALWORLD_STRICT`): a path parameter has a character that is not allowed, or the
  request is not valid HTTP.
- 401: the operation requires a token or an API key, which is missing, invalid, expired or revoked.
- 403: the user must set up a second factor first (`REQUIRE_TWO_FACTOR`).
- 404, 405: no operation has this path or this method.
- 408, 413, 415: the body arrives too slowly, is too large, or has a `Content-Encoding`.
- 429: too many invalid API keys from this IP address.
- 417, 505: the `Expect` header or the version of HTTP is not supported.
- 500: the service has failed.
- 503: the database cannot be reached, or too many passwords are waiting to be verified. The header
  `Retry-After` says when to try again.

## Every request and response

Unknown fields in a body are ignored. Every response has the header `X-Request-ID`. It contains the
id of the request in the log of the service: the client's own id, or a new one.
"""

INFO = {
    "title": "Conduit Accounts",
    "version": __version__,
    "summary": "User accounts with sessions, and the RealWorld (Conduit) API.",
    "description": DESCRIPTION,
    "license": {"name": "MIT License", "identifier": "MIT"},
}

TAGS = [
    {"name": "Accounts", "description": "Register, log in, and manage the current user."},
    {"name": "Passkeys", "description": "Create passkeys (WebAuthn), and log in with them."},
    {
        "name": "Identity providers",
        "description": "Log in through Google, GitHub or an OpenID provider, and link identities.",
    },
    {"name": "Sessions", "description": "Refresh tokens, list and revoke sessions."},
    {"name": "Tokens", "description": "Verify access tokens in other services."},
    {"name": "Profiles", "description": "Show and follow other users."},
    {"name": "Articles", "description": "Write, list, read and favorite articles."},
    {"name": "Comments", "description": "Comment on articles."},
    {"name": "Tags", "description": "List the tags of articles."},
    {"name": "Administration", "description": "Manage all accounts, with an API key."},
    {"name": "Operations", "description": "Monitor the service, and read its documentation."},
]
"""The tags in the order in which ``/docs`` shows them."""

SECURITY_SCHEMES = {
    "Token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": (
            "The `token` of a registration or login. The header consists of the word `Token`, one "
            "space and the token: `Token eyJhbGciOi...`. On the page `/docs` you can enter the "
            "token alone."
        ),
    },
    "Key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "conduit_key_...",
        "description": (
            "An API key for programs, which `python run.py keys create` makes. The key must have "
            "the scope that the operation names. Pages in a browser must not have one."
        ),
    },
}

HEADERS = {
    "X-Request-ID": {
        "description": "The id of the request in the log of the service.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "example": "3f1c9a2b7d4e-1a",
    },
    "Retry-After": {
        "description": "The seconds to wait before the next attempt.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 2,
    },
    "Accept-Encoding": {
        "description": "The only encoding that a request body may have.",
        "schema": {"type": "string", "const": "identity"},
        "example": "identity",
    },
    "WWW-Authenticate": {
        "description": "The accepted authentication scheme: `Token`, or `Bearer` for an API key.",
        "schema": {"type": "string", "pattern": "^(Token|Bearer realm=.*)$"},
        "example": "Token",
    },
}

ERROR = {
    "type": "object",
    "properties": {
        "errors": {
            "type": "object",
            "description": "Messages for people, by the field or subject that they are about.",
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
        "challenge": {
            "type": "string",
            "description": (
                "Only with `two_factor_required`: send it with a code to "
                "`POST /api/users/login/two-factor`."
            ),
            "examples": ["kF7n0m9u1uY7b0uXKk9o0l1VwJm0b6vG5q2cQw8tZrE"],
        },
        "methods": {
            **array_of({"type": "string", "examples": ["password"]}),
            "description": (
                "Only with `reauthentication_required`: what the account can prove itself with."
            ),
        },
    },
    "required": ["errors", "code"],
    "additionalProperties": False,
}
