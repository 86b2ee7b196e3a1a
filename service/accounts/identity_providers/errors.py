"""The errors of sign-ins through identity providers."""

from service.http.error_codes import ErrorCode
from service.http.errors import ApiError, InvalidInput, Unauthorized, Unavailable

RETRY_AFTER = 10  # Seconds until a provider that did not respond may be asked again.


class ProviderUnavailable(Unavailable):
    """503: the provider cannot be reached, is too slow, or has failed."""

    def __init__(self) -> None:
        super().__init__(
            "provider",
            "is not available",
            code=ErrorCode.PROVIDER_UNAVAILABLE,
            retry_after=RETRY_AFTER,
        )


class ProviderResponseInvalid(Unauthorized):
    """401: the provider has rejected the code, or its response does not pass the checks."""

    def __init__(self) -> None:
        super().__init__("provider", "cannot be verified", code=ErrorCode.PROVIDER_RESPONSE_INVALID)


class ProviderDenied(ApiError):
    """403: the provider has redirected with an error, or the person did not agree there."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.PROVIDER_DENIED, {"provider": ["denied the sign-in"]})


class ProviderEmailMissing(ApiError):
    """403: the provider gave no valid email, and an account needs one."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.PROVIDER_EMAIL_MISSING, {"email": ["is missing"]})


class ProofNotFresh(Unauthorized):
    """401: the provider did not verify the person again for this request."""

    def __init__(self) -> None:
        super().__init__(
            "provider", "did not verify the person again", code=ErrorCode.PROOF_NOT_FRESH
        )


class IdentityUnknown(Unauthorized):
    """401: the account does not have this identity."""

    def __init__(self) -> None:
        super().__init__("identity", "is unknown", code=ErrorCode.IDENTITY_UNKNOWN)


class ProviderCodeInvalid(Unauthorized):
    """401: the code cannot be used, or not by this client."""

    def __init__(self) -> None:
        super().__init__("code", "is invalid", code=ErrorCode.PROVIDER_CODE_INVALID)


def invalid_state() -> InvalidInput:
    """Return the error for a callback that this browser did not begin, or has completed."""
    return InvalidInput({"state": ["is unknown, was used, has expired, or is of another browser"]})


class InvalidResponse(Exception):
    """The response of a provider does not pass a check. The message is for the log."""


class UnexpectedStatus(InvalidResponse):
    """The response of a provider has another status than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class ClientRejected(InvalidResponse):
    """The provider does not accept the client id and the client secret."""


class NoResponse(Exception):
    """A provider did not respond as it should in time. The message is for the log."""
