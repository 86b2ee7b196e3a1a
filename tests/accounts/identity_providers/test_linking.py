"""The truth table of linking: each combination of facts, its decision, and the source of the rule.

A row holds for every combination that it matches. The first row that matches decides, and every
row must match one at least.
"""

from collections.abc import Collection
from itertools import product

import pytest

from service.accounts.identity_providers.linking import (
    Account,
    AtIssuer,
    Decision,
    EmailClaim,
    Facts,
    Owner,
    decide,
)

OIDC = "OpenID Connect Core, section 5.7: issuer and subject identify a person, an email does not"
HIJACK = "Sudhodanan and Paverd, Pre-hijacked accounts (2022)"
BOTH = "linked without asking only if both sides have verified the email"

ANY_EMAIL, ANY_ACCOUNT, ANY_AT = tuple(EmailClaim), tuple(Account), tuple(AtIssuer)
NONE, USER, OTHER = Owner.NONE, Owner.USER, Owner.OTHER
ABSENT, UNVERIFIED, VERIFIED = EmailClaim.ABSENT, EmailClaim.UNVERIFIED, EmailClaim.VERIFIED
SIGNED_IN, ANONYMOUS = (True,), (False,)

Row = tuple[
    Collection[Owner],
    Collection[EmailClaim],
    Collection[Account],
    Collection[AtIssuer],
    Collection[bool],
    Decision,
    str,
]

TABLE: list[Row] = [
    # owner, email at the provider, account, at the issuer, signed in, decision, source
    ((USER, OTHER), ANY_EMAIL, ANY_ACCOUNT, ANY_AT, ANONYMOUS, Decision.SIGN_IN, OIDC),
    ((NONE,), (ABSENT,), ANY_ACCOUNT, ANY_AT, ANONYMOUS, Decision.NEEDS_EMAIL, "contract: email"),
    (
        *((NONE,), (UNVERIFIED, VERIFIED), (Account.NONE,), ANY_AT, ANONYMOUS),
        *(Decision.REGISTER, "contract: signs in or registers"),
    ),
    (
        *((NONE,), (UNVERIFIED,), ANY_ACCOUNT, ANY_AT, ANONYMOUS, Decision.EMAIL_TAKEN),
        f"{BOTH}: any person can enter any email at some providers",
    ),
    (
        *((NONE,), (VERIFIED,), (Account.NEVER_VERIFIED,), ANY_AT, ANONYMOUS, Decision.TAKE_OVER),
        f"{HIJACK}: classic-federated merge; CVE-2026-44166",
    ),
    (
        *((NONE,), (VERIFIED,), (Account.UNVERIFIED,), ANY_AT, ANONYMOUS, Decision.EMAIL_TAKEN),
        f"{BOTH}: the account is that of the owner of another email",
    ),
    (
        *((NONE,), (VERIFIED,), (Account.VERIFIED,), (AtIssuer.OTHER,), ANONYMOUS),
        Decision.EMAIL_TAKEN,
        "OpenID Connect Core, section 5.7: a provider may give an email to another person",
    ),
    (
        *((NONE,), (VERIFIED,), (Account.VERIFIED,), (AtIssuer.UNLINKED,), ANONYMOUS),
        Decision.EMAIL_TAKEN,
        "the owner has unlinked it: only they link it again",
    ),
    (
        *((NONE,), (VERIFIED,), (Account.VERIFIED,), (AtIssuer.NONE,), ANONYMOUS),
        *(Decision.LINK, BOTH),
    ),
    ((USER,), ANY_EMAIL, ANY_ACCOUNT, ANY_AT, SIGNED_IN, Decision.KEEP, "RFC 9110: idempotent"),
    ((OTHER,), ANY_EMAIL, ANY_ACCOUNT, ANY_AT, SIGNED_IN, Decision.IDENTITY_TAKEN, OIDC),
    (
        *((NONE,), ANY_EMAIL, (Account.NONE, Account.NEVER_VERIFIED, Account.UNVERIFIED)),
        *(ANY_AT, SIGNED_IN, Decision.UNVERIFIED, f"{HIJACK}: trojan identifier"),
    ),
    (
        *((NONE,), ANY_EMAIL, (Account.VERIFIED,), (AtIssuer.OTHER,), SIGNED_IN),
        Decision.ISSUER_TAKEN,
        "a user has one identity at an issuer",
    ),
    (
        *((NONE,), ANY_EMAIL, (Account.VERIFIED,), (AtIssuer.NONE, AtIssuer.UNLINKED), SIGNED_IN),
        Decision.LINK,
        "contract: the user has asked for it",
    ),
]


def matches(row: Row, facts: Facts) -> bool:
    owners, emails, accounts, at_issuer, signed_in = row[:5]
    return (
        facts.owner in owners
        and facts.email in emails
        and facts.account in accounts
        and facts.at_issuer in at_issuer
        and facts.is_signed_in in signed_in
    )


ALL_FACTS = [Facts(*each) for each in product(Owner, EmailClaim, Account, AtIssuer, (False, True))]


@pytest.mark.parametrize("facts", ALL_FACTS, ids=str)
def test_decision_is_that_of_the_table(facts: Facts) -> None:
    row = next(row for row in TABLE if matches(row, facts))
    assert decide(facts) is row[5], row[6]


def test_every_row_of_the_table_decides_something() -> None:
    deciding = [next(row for row in TABLE if matches(row, facts)) for facts in ALL_FACTS]
    assert all(row in deciding for row in TABLE)
    assert {row[5] for row in deciding} == set(Decision)
