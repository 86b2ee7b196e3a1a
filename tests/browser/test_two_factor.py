"""The second factor in Chromium: a front-end runs the code of docs/two-factor.md."""

import re
from pathlib import Path
from typing import Any

import pyotp
import pytest

from tests.browser.browser import Browser, ScriptError
from tests.browser.front_end import DOCUMENT, FrontEnd, documented, open_front_end
from tests.browser.service import Service

SHOW_IMAGE = """
    const image = new Image();
    document.body.append(image);
    {code}
    await image.decode();
    return [secret, uri, image.naturalWidth];
"""
LOG_IN = """
    {code}
    return logIn(email, password, async () => code);
"""


class AuthenticatorApp:
    """The app of a person who has scanned a secret."""

    def __init__(self, service: Service, secret: str) -> None:
        self._service = service
        self._totp = pyotp.TOTP(secret)

    def code(self) -> str:
        """Return the current code, as if the service had accepted none of this time step."""
        self._service.fetch("update totp_secrets set last_step = -1 returning id")
        return self._totp.now()


def set_up(page: FrontEnd, service: Service, password: str) -> tuple[AuthenticatorApp, list[str]]:
    """Turn the second factor on. Return the app and the recovery codes."""
    script = SHOW_IMAGE.replace("{code}", documented("Scan the secret"))
    secret, uri, width = page.run(script, password=password)
    assert uri.startswith("otpauth://totp/")
    assert width > 100, "the image has no QR code"
    app = AuthenticatorApp(service, secret)
    script = documented("Confirm it") + "return recovery_codes;"
    codes: list[str] = page.run(script, code=app.code())
    assert len(codes) == 10
    return app, codes


def log_in(page: FrontEnd, name: str, code: str) -> Any:
    """Log in with both factors as the document shows it."""
    page.token = ""
    given = {"email": f"{name}@example.test", "password": f"{name}-secret", "code": code}
    script = LOG_IN.replace("{code}", documented("Log in with a code"))
    session = page.run(script, **given)
    page.token = session["user"]["token"]
    return session


def test_second_factor_is_set_up_and_asked_for(
    service: Service, browser: Browser, front_end: str
) -> None:
    page = open_front_end(browser, service, front_end, "toni")
    script = LOG_IN.replace("{code}", documented("Log in with a code"))
    given = {"email": "toni@example.test", "password": "toni-secret", "code": "not asked for"}
    assert page.run(script, **given)["user"]["username"] == "toni"
    app, recovery_codes = set_up(page, service, "toni-secret")
    assert log_in(page, "toni", app.code())["user"]["username"] == "toni"
    assert log_in(page, "toni", recovery_codes[0])["user"]["username"] == "toni"
    script = documented("Replace the recovery codes") + "return recovery_codes;"
    new_codes = page.run(script)
    assert len(set(new_codes) - set(recovery_codes)) == 10
    assert log_in(page, "toni", new_codes[0])["user"]["username"] == "toni"
    for useless in (new_codes[0], recovery_codes[1]):
        with pytest.raises(ScriptError, match="code_invalid"):
            log_in(page, "toni", useless)


def test_second_factor_renews_the_proof_and_is_turned_off(
    service: Service, browser: Browser, front_end: str
) -> None:
    page = open_front_end(browser, service, front_end, "tilda")
    app, _ = set_up(page, service, "tilda-secret")
    service.fetch("update sessions set auth_time = now() - interval '1 hour' returning id")
    turn_off = documented("Turn it off")

    def is_rejected() -> bool:
        try:
            page.run(turn_off, password="tilda-secret", code=app.code())
        except ScriptError as error:
            return "reauthentication_required" in str(error)
        return False

    assert is_rejected()
    script = documented("Prove both factors") + "return tokens;"
    tokens = page.run(script, password="tilda-secret", code=app.code())
    page.token = tokens["access_token"]
    page.run(turn_off, password="tilda-secret", code=app.code())
    status = page.run("return (await call('GET', '/api/user/two-factor')).two_factor;")
    assert status == {"enabled": False, "since": None, "recovery_codes_left": 0}


def test_every_example_is_run() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    parts = re.split(r"^\*\*", text, flags=re.MULTILINE)
    shown = [part.partition(".**")[0] for part in parts if "```js\n" in part]
    assert len(shown) == text.count("```js\n") > 0
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert [subject for subject in shown if f'documented("{subject}")' not in tests] == []
