"""Decide to which account an identity leads. This is a pure function.

Most accounts that were taken over through a provider were taken over here: an email at a provider
was believed, or an email of the account.
"""

from dataclasses import dataclass
from enum import Enum, auto


class Owner(Enum):
    """Who has the identity."""

    NONE = auto()
    """No account."""
    USER = auto()
    """The account that is signed in; without one, any account."""
    OTHER = auto()
    """Another account than the one that is signed in."""


class EmailClaim(Enum):
    """What the provider says about the email."""

    ABSENT = auto()
    UNVERIFIED = auto()
    VERIFIED = auto()


class Account(Enum):
    """The account that is signed in; without one, the account that has the email."""

    NONE = auto()
    NEVER_VERIFIED = auto()
    """None of its emails was ever verified: any person may have registered it."""
    UNVERIFIED = auto()
    """An earlier email was verified, but the current one is not."""
    VERIFIED = auto()


class AtIssuer(Enum):
    """Which identity the account has at the same issuer."""

    NONE = auto()
    OTHER = auto()
    """Another one than that of the sign-in."""
    UNLINKED = auto()
    """None any more: the owner has unlinked or reported one."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides."""

    owner: Owner
    email: EmailClaim
    account: Account
    at_issuer: AtIssuer
    is_signed_in: bool


class Decision(Enum):
    """What happens."""

    SIGN_IN = auto()
    """Sign in to the account that has the identity."""
    REGISTER = auto()
    """Register an account with the email. It is verified if the provider has verified it."""
    LINK = auto()
    """Link the identity to the account, and tell its owner."""
    TAKE_OVER = auto()
    """Remove every other way into the account, then link the identity."""
    KEEP = auto()
    """Nothing: the account that is signed in has the identity."""
    NEEDS_EMAIL = auto()
    """Refuse: an account needs an email."""
    EMAIL_TAKEN = auto()
    """Refuse: the person signs in to the account in another way, and links the identity there."""
    IDENTITY_TAKEN = auto()
    """Refuse: another account has the identity."""
    ISSUER_TAKEN = auto()
    """Refuse: the account has another identity at the same issuer."""
    UNVERIFIED = auto()
    """Refuse: the owner of the account verifies the email first."""


def decide(facts: Facts) -> Decision:
    """Return what happens to an identity, with the facts at that moment."""
    return _decide_link(facts) if facts.is_signed_in else _decide_sign_in(facts)


def _decide_sign_in(facts: Facts) -> Decision:
    if facts.owner is not Owner.NONE:
        return Decision.SIGN_IN
    if facts.email is EmailClaim.ABSENT:
        return Decision.NEEDS_EMAIL
    if facts.account is Account.NONE:
        return Decision.REGISTER
    if facts.email is EmailClaim.VERIFIED:
        if facts.account is Account.NEVER_VERIFIED:
            return Decision.TAKE_OVER
        # A provider may give the email of a person who has left to another person. An identity that
        # the owner has unlinked must not come back by itself.
        if facts.account is Account.VERIFIED and facts.at_issuer is AtIssuer.NONE:
            return Decision.LINK
    return Decision.EMAIL_TAKEN


def _decide_link(facts: Facts) -> Decision:
    if facts.owner is Owner.USER:
        return Decision.KEEP
    if facts.owner is Owner.OTHER:
        return Decision.IDENTITY_TAKEN
    # Otherwise an attacker could register the email of another person, link an identity, and still
    # have it after the other person has verified the email.
    if facts.account is not Account.VERIFIED:
        return Decision.UNVERIFIED
    return Decision.ISSUER_TAKEN if facts.at_issuer is AtIssuer.OTHER else Decision.LINK
