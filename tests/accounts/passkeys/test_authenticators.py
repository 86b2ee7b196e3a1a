"""The first name of a passkey."""

from uuid import UUID

import pytest

from service.accounts.passkeys.authenticators import AUTHENTICATORS, default_name


@pytest.mark.parametrize("aaguid", AUTHENTICATORS)
def test_passkey_of_a_known_authenticator_has_its_name(aaguid: str) -> None:
    assert default_name(UUID(aaguid)) == AUTHENTICATORS[aaguid]


@pytest.mark.parametrize("aaguid", [UUID(int=0), UUID(int=7)])
def test_passkey_of_any_other_authenticator_is_named_passkey(aaguid: UUID) -> None:
    assert default_name(aaguid) == "Passkey"
