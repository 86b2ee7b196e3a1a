"""Require a second factor of every account (``REQUIRE_TWO_FACTOR``)."""

from service.accounts.sessions.authentication_methods import Method
from service.accounts.user import User
from service.http.error_codes import ErrorCode
from service.http.errors import ApiError
from service.http.routes import Auth, Operation


class TwoFactorSetupRequired(ApiError):
    """403: the account must set up a second factor before anything else."""

    def __init__(self) -> None:
        super().__init__(
            ErrorCode.TWO_FACTOR_SETUP_REQUIRED, {"two_factor": ["must be set up first"]}
        )


def require_two_factor(user: User, operation: Operation | None) -> User | None:
    """Return ``user`` if their session has two factors, or if the route is for its set-up.

    A login with a passkey has two factors too. Where a user is optional, return ``None``: the
    request goes on without a user. Otherwise raise ``TwoFactorSetupRequired``.
    """
    if Method.MULTIPLE in user.amr:
        return user
    if operation is not None:
        if operation.setup:
            return user
        if operation.auth is Auth.OPTIONAL:
            return None
    raise TwoFactorSetupRequired
