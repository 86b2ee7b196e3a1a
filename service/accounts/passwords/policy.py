"""What a new password must be (NIST SP 800-63B-4, section 3.1.1.2).

It has a minimum length and no rules of composition. It is not one that attackers try first: a
common password, the person's own username or email, or the name of the service.
"""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from service.accounts import fields
from service.accounts.passwords.blocklist import Blocklist, load_blocklist
from service.accounts.passwords.schemes import MAX_BCRYPT_BYTES
from service.http.bodies import FindErrors
from service.http.errors import InvalidInput
from service.settings.settings import Settings

TOO_COMMON = "is too common"
MAX_BYTES = 1024  # Bytes of a password with argon2id, which has no limit of its own.


class PasswordPolicy:
    """Check new passwords."""

    def __init__(self, settings: Settings, blocklist: Blocklist | None) -> None:
        self.min_length = settings.password_min_length
        is_bcrypt = settings.password_algorithm == "bcrypt"  # noqa: S105 - an algorithm
        self.max_bytes = MAX_BCRYPT_BYTES if is_bcrypt else MAX_BYTES
        self._blocklist = blocklist
        self._site = settings.site

    async def errors(self, password: Any, *own: Any) -> list[str]:
        """Return what is wrong with a new password, in addition to what its validator says.

        ``own`` are the username and the email of the person. Values of another type than text are
        ignored: their validators reject them.
        """
        if not isinstance(password, str) or not password.strip():
            return []
        if len(password) < self.min_length:
            return [f"is too short (minimum is {self.min_length} characters)"]
        try:
            size = len(password.encode())
        except UnicodeEncodeError:
            return []
        if size > self.max_bytes:
            return [f"is too long (maximum is {self.max_bytes} bytes)"]
        if self._blocklist is None:
            return []
        if self._is_own(password, (text for text in own if isinstance(text, str))):
            return [TOO_COMMON]
        return [TOO_COMMON] if await self._blocklist.has(password) else []

    def find_errors(self, *own: str) -> FindErrors:
        """Return a check of the password in a body ``{"user": {...}}``, for ``read_body``.

        ``own`` are the username and the email of the current user. Those in the body count too.
        """

        async def find(body: dict[str, Any]) -> dict[str, list[str]]:
            user = body.get("user")
            if not isinstance(user, dict):
                return {}
            names = (*own, user.get("username"), user.get("email"))
            messages = await self.errors(user.get("password"), *names)
            return {"password": messages} if messages else {}

        return find

    async def require(self, field: str, password: str, *own: str) -> None:
        """Raise ``InvalidInput`` for ``field`` if ``errors`` finds any."""
        if messages := await self.errors(password, *own):
            raise InvalidInput({field: messages})

    def _is_own(self, password: str, own: Iterable[str]) -> bool:
        """Return whether ``password`` is a word of the person or the service.

        Case, digits and punctuation around it do not matter. A longer text than an email is not
        compared: it may come from a body that is not validated yet.
        """
        host = self._site.partition(":")[0]
        words = {self._site, host, *host.split(".")}
        for text in own:
            if len(text) <= fields.MAX_EMAIL:
                words |= {text, text.rpartition("@")[0] or text}
        key = fields.uniqueness_key(password)
        keys = {fields.uniqueness_key(word) for word in words}
        bare = _bare(key)
        return key in keys or (len(bare) > 2 and bare in map(_bare, keys))


def _bare(text: str) -> str:
    """Return ``text`` without digits and punctuation at both ends."""
    letters = [place for place, character in enumerate(text) if character.isalpha()]
    return text[letters[0] : letters[-1] + 1] if letters else ""


def create_policy(settings: Settings) -> PasswordPolicy:
    """Return the policy of ``settings``. Raise ``SettingsError`` as ``load_blocklist`` does."""
    return PasswordPolicy(settings, load_blocklist(settings))


PASSWORD_POLICY = web.AppKey("password_policy", PasswordPolicy)
