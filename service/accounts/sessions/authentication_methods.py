"""The methods by which a person proves who they are, with the names of RFC 8176 (``amr``)."""

from enum import StrEnum


class Method(StrEnum):
    """A value of ``amr``."""

    PASSWORD = "pwd"  # noqa: S105 - the name of a method
    ONE_TIME_CODE = "otp"
    """A code of an authenticator app, or a recovery code."""
    PASSKEY = "pop"
    """The proof that the device has the private key of a passkey."""
    FEDERATED = "fed"
    """A login at an identity provider. RFC 8176 has no name for it; this one is Microsoft's."""
    MULTIPLE = "mfa"
    """The proof has two factors."""


PASSWORD = (Method.PASSWORD,)
PASSWORD_AND_CODE = (Method.PASSWORD, Method.ONE_TIME_CODE, Method.MULTIPLE)
FEDERATED = (Method.FEDERATED,)
PASSKEY = (Method.PASSKEY, Method.MULTIPLE)
"""A passkey with user verification is two factors: the device, and a PIN or a fingerprint."""
