"""Mailed links in a browser: a person opens the link that the log printed and presses a button."""

from urllib.parse import urlsplit

from tests.browser.browser import Browser
from tests.browser.service import Service

NEW_PASSWORD = "correct horse battery staple"
TOO_LONG = "m" * 73
"""A password that bcrypt cannot hash. The form in the browser does not know this limit."""
IS_VERIFIED = "select email_verified_at is not null from users where username = %s"
UNUSED = """
    select count(*) from one_time_tokens join users on users.id = user_id
    where username = %s and used_at is null
"""


def test_printed_link_verifies_the_email(service: Service, browser: Browser) -> None:
    browser.open(service.register("verena"))
    assert browser.heading == "Confirm your email"
    assert "verena@example.test" in browser.text
    assert service.fetch(IS_VERIFIED, "verena") == [(False,)]
    browser.press("Confirm my email", opens="Email confirmed")
    assert service.fetch(IS_VERIFIED, "verena") == [(True,)]
    assert browser.console() == []


def test_used_link_opens_a_page_that_says_so(service: Service, browser: Browser) -> None:
    link = service.register("ulla")
    browser.open(link)
    browser.press("Confirm my email", opens="Email confirmed")
    browser.open(link)
    assert browser.heading == "This link is not valid"
    assert browser.buttons() == []


def test_person_who_did_not_register_deletes_the_account(
    service: Service, browser: Browser
) -> None:
    browser.open(service.register("dora"))
    button = "I did not register: delete the account"
    browser.press(button, opens="Account deleted")
    assert service.process.login("dora") == 401
    # The email and the username are free again.
    service.process.register("dora")


def test_scripted_browser_that_waits_ten_seconds_and_other_methods_use_no_link(
    service: Service, browser: Browser
) -> None:
    """Mail scanners open every link with a browser, and wait for what its scripts do."""
    verification, reset = service.register("sam"), service.forget_password("sam")
    with service.process.connection() as connection:
        for link in (verification, reset):
            browser.open(link)
            heading = browser.heading
            browser.pass_time(10)
            parts = urlsplit(link)
            for method in ("HEAD", "GET", "OPTIONS"):
                connection.request(method, f"{parts.path}?{parts.query}")
                connection.getresponse().read()
            assert browser.heading == heading
    assert service.fetch(UNUSED, "sam") == [(2,)]
    assert service.fetch(IS_VERIFIED, "sam") == [(False,)]
    browser.open(verification)
    browser.press("Confirm my email", opens="Email confirmed")
    browser.open(reset)
    browser.fill("New password", NEW_PASSWORD)
    browser.press("Change my password", opens="Password changed")


def test_forgotten_password_is_replaced(service: Service, browser: Browser) -> None:
    service.register("rosa")
    browser.open(service.forget_password("rosa"))
    assert browser.heading == "Choose a new password"
    browser.fill("New password", NEW_PASSWORD)
    browser.press("Change my password", opens="Password changed")
    assert service.process.login("rosa") == 401
    user = {"email": "rosa@example.test", "password": NEW_PASSWORD}
    assert service.process.request("POST", "/api/users/login", {"user": user})[0] == 200
    assert service.fetch(IS_VERIFIED, "rosa") == [(True,)]
    assert browser.console() == []


def test_rejected_password_keeps_the_person_on_the_page(service: Service, browser: Browser) -> None:
    service.register("paul")
    browser.open(service.forget_password("paul"))
    browser.fill("New password", TOO_LONG)
    browser.press("Change my password", opens="Choose a new password")
    assert "72 bytes" in browser.text
    assert service.process.login("paul") == 200
    browser.fill("New password", NEW_PASSWORD)
    browser.press("Change my password", opens="Password changed")
    assert service.process.login("paul") == 401
