"""The stable codes of error responses. ``docs/errors.md`` explains what a client should do."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """The ``code`` of an error response, with its HTTP status and its meaning.

    ``status`` is that of the default dialect. ``meaning`` is one sentence for the OpenAPI document.
    """

    status: int
    meaning: str

    def __new__(cls, code: str, status: int, meaning: str) -> "ErrorCode":
        """Create a member whose value is ``code``."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        member.meaning = meaning
        return member

    INVALID_INPUT = (
        "invalid_input",
        400,
        "The input is invalid. `errors` names every invalid field.",
    )
    BAD_REQUEST = "bad_request", 400, "The request is not valid HTTP."
    INVALID_CREDENTIALS = (
        "invalid_credentials",
        401,
        "The email is unknown or the password is wrong.",
    )
    TWO_FACTOR_REQUIRED = (
        "two_factor_required",
        401,
        "The account has a second factor. `challenge` is for the next step of the login.",
    )
    CODE_INVALID = "code_invalid", 401, "The code of the second factor is wrong or was used."
    CHALLENGE_INVALID = (
        "challenge_invalid",
        401,
        "The challenge of a login is unknown, was used, has expired or had too many attempts.",
    )
    PASSKEY_UNKNOWN = "passkey_unknown", 401, "The passkey is unknown, or it was removed."
    PASSKEY_INVALID = (
        "passkey_invalid",
        401,
        "The response of the passkey cannot be verified.",
    )
    PROVIDER_RESPONSE_INVALID = (
        "provider_response_invalid",
        401,
        "The response of the identity provider cannot be verified.",
    )
    PROVIDER_CODE_INVALID = (
        "provider_code_invalid",
        401,
        "The code of a sign-in through an identity provider is unknown, was used, has expired, or "
        "is of another client.",
    )
    IDENTITY_UNKNOWN = "identity_unknown", 401, "The account does not have this identity."
    PROOF_NOT_FRESH = (
        "proof_not_fresh",
        401,
        "The identity provider did not verify the person again.",
    )
    TOKEN_MISSING = "token_missing", 401, "The request has no `Authorization` header."
    TOKEN_INVALID = (
        "token_invalid",
        401,
        "The `Authorization` header does not contain a valid access token.",
    )
    TOKEN_EXPIRED = "token_expired", 401, "The access token has expired."
    TOKEN_REVOKED = (
        "token_revoked",
        401,
        "The session of the access token was ended, or the account was deleted.",
    )
    SESSION_EVICTED = (
        "session_evicted",
        401,
        "The session was ended because the account opened more sessions than are allowed.",
    )
    KEY_MISSING = (
        "key_missing",
        401,
        "The operation requires an API key, and the request has no `Authorization` header.",
    )
    KEY_INVALID = (
        "key_invalid",
        401,
        "The `Authorization` header does not contain a valid API key.",
    )
    REFRESH_TOKEN_INVALID = "refresh_token_invalid", 401, "The refresh token is unknown."
    REFRESH_TOKEN_EXPIRED = "refresh_token_expired", 401, "The refresh token has expired."
    REFRESH_TOKEN_REVOKED = (
        "refresh_token_revoked",
        401,
        "The session of the refresh token was ended.",
    )
    REFRESH_TOKEN_REUSED = (
        "refresh_token_reused",
        401,
        "The refresh token was used before, so it may be stolen. Its session was ended.",
    )
    EMAIL_NOT_VERIFIED = (
        "email_not_verified",
        403,
        "The email of the account is not verified. A mail with a link was sent to it.",
    )
    ACCOUNT_LOCKED = "account_locked", 403, "An administrator has locked the account."
    PROVIDER_DENIED = (
        "provider_denied",
        403,
        "The person did not agree at the identity provider, or the provider refused.",
    )
    PROVIDER_EMAIL_MISSING = (
        "provider_email_missing",
        403,
        "The identity provider gave no email, and an account needs one.",
    )
    PASSKEY_LIMIT_REACHED = (
        "passkey_limit_reached",
        403,
        "The account has as many passkeys as are allowed.",
    )
    FORBIDDEN = "forbidden", 403, "The resource belongs to another user."
    ROLE_REQUIRED = "role_required", 403, "The user does not have the role that the route requires."
    SCOPE_REQUIRED = (
        "scope_required",
        403,
        "The API key does not have the scope that the operation requires.",
    )
    REAUTHENTICATION_REQUIRED = (
        "reauthentication_required",
        403,
        "The route requires that the person proved lately who they are. `methods` names what the "
        "account can prove it with.",
    )
    TWO_FACTOR_SETUP_REQUIRED = (
        "two_factor_setup_required",
        403,
        "The account must set up a second factor first (`REQUIRE_TWO_FACTOR`).",
    )
    SESSION_LIMIT_REACHED = (
        "session_limit_reached",
        403,
        "The account has as many open sessions as are allowed.",
    )
    NOT_FOUND = "not_found", 404, "The resource or the path does not exist."
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "The path does not support the method."
    REQUEST_TIMEOUT = "request_timeout", 408, "The body took too long to arrive."
    ALREADY_TAKEN = (
        "already_taken",
        409,
        "Another account has the email, the username or the identity, an account has the passkey, "
        "or the account has another identity at the provider. `errors` names each of them.",
    )
    LAST_SIGN_IN_METHOD = (
        "last_sign_in_method",
        409,
        "The account would have no other way to log in.",
    )
    LINK_EXPIRED = "link_expired", 410, "The mailed link has expired."
    BODY_TOO_LARGE = "body_too_large", 413, "The body exceeds the size limit."
    CONTENT_ENCODING_NOT_SUPPORTED = (
        "content_encoding_not_supported",
        415,
        "The body is compressed or encoded in another way.",
    )
    EXPECTATION_FAILED = (
        "expectation_failed",
        417,
        "The `Expect` header has a value other than `100-continue`.",
    )
    TOO_MANY_ATTEMPTS = "too_many_attempts", 429, "A rate limit is reached."
    INTERNAL_ERROR = (
        "internal_error",
        500,
        "The service has failed. Its log has the error under the request id.",
    )
    DATABASE_UNAVAILABLE = "database_unavailable", 503, "The database cannot be reached."
    PASSWORDS_BUSY = (
        "passwords_busy",
        503,
        "Too many passwords are waiting to be verified.",
    )
    PROVIDER_UNAVAILABLE = (
        "provider_unavailable",
        503,
        "The identity provider cannot be reached, is too slow, or has failed.",
    )
    TWO_FACTOR_UNAVAILABLE = (
        "two_factor_unavailable",
        503,
        "The service has no key for the secrets of second factors.",
    )
    HTTP_VERSION_NOT_SUPPORTED = (
        "http_version_not_supported",
        505,
        "The request uses a version other than HTTP/1.0 and HTTP/1.1.",
    )
