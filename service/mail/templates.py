"""Render mails: make the subject and the text of a message from a template and its values."""

from collections.abc import Callable, Mapping

from service.mail.message import Mail, Message


class Templates:
    """The templates of all mails."""

    def render(self, mail: Mail) -> Message:
        """Return the message of ``mail``. Raise ``KeyError`` for an unknown template or value."""
        return _TEMPLATES[mail.template](mail.values)


def _lockout(values: Mapping[str, str]) -> Message:
    place = f" from the IP address {values['ip']}" if values["ip"] else ""
    minutes = values["minutes"]
    return Message(
        "Too many failed logins to your account",
        f"""\
There were too many logins to your account with a wrong password. The last
one was on {values["time"]}{place}.

All of these logins failed. For up to {minutes} minutes, more logins are
rejected, even with the correct password. Devices that are logged in stay
logged in.

If it was you, try again in {minutes} minutes.

If it was not you, nothing in your account was changed. Choose another
password if yours is easy to guess, or if you also use it elsewhere.
""",
    )


_TEMPLATES: Mapping[str, Callable[[Mapping[str, str]], Message]] = {"lockout": _lockout}
