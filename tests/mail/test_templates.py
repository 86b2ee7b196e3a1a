"""Test the messages that the templates make."""

import pytest

from service.mail.message import Mail
from service.mail.templates import Templates

LOCKOUT = {"time": "24 November 2026, 08:00 UTC", "ip": "192.0.2.1", "minutes": "60"}


@pytest.mark.parametrize(
    ("ip", "words"),
    [("192.0.2.1", "08:00 UTC from the IP address 192.0.2.1.\n"), ("", "08:00 UTC.\n")],
)
def test_lockout_message_says_when_from_where_and_for_how_long(ip: str, words: str) -> None:
    mail = Mail("alice@example.test", "lockout", "en", {**LOCKOUT, "ip": ip})
    message = Templates().render(mail)
    assert message.subject == "Too many failed logins to your account"
    assert words in message.text
    assert "If it was you, try again in 60 minutes.\n" in message.text
