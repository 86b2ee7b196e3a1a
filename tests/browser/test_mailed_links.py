"""Mailed links in a browser: a person opens the link that the log printed and presses a button."""

from urllib.parse import urlsplit

from tests.browser.browser import Browser
from tests.browser.service import NEW_PASSWORD, TOO_LONG_PASSWORD, Service

THIEFS_PASSWORD = "a password of the thief"
IS_VERIFIED = "select email_verified_at is not null from users where username = %s"


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
    assert not service.can_log_in("dora", "dora-secret")
    # The email and the username are free again.
    service.process.register("dora")


def test_scripted_browser_that_waits_ten_seconds_and_other_methods_use_no_link(
    service: Service, browser: Browser
) -> None:
    """Mail scanners open every link with a browser, and wait for what its scripts do."""
    links = {
        service.register("sam"): "Confirm your email",
        service.forget_password("sam"): "Choose a new password",
        service.change_email("sara", "new-sara"): "Confirm your new email",
        service.change_password("saul", NEW_PASSWORD)[1]: "This was not me",
        service.lock_login("sven"): "Unlock the login",
    }
    with service.process.connection() as connection:
        for link, heading in links.items():
            browser.open(link)
            assert browser.heading == heading
            browser.pass_time(10)
            parts = urlsplit(link)
            for method in ("HEAD", "GET", "OPTIONS"):
                connection.request(method, f"{parts.path}?{parts.query}")
                connection.getresponse().read()
            assert browser.heading == heading
            assert not service.is_used(link)
    (verification, *_) = links
    browser.open(verification)
    browser.press("Confirm my email", opens="Email confirmed")
    assert service.is_used(verification)


def test_forgotten_password_is_replaced(service: Service, browser: Browser) -> None:
    service.register("rosa")
    browser.open(service.forget_password("rosa"))
    assert browser.heading == "Choose a new password"
    browser.fill("New password", NEW_PASSWORD)
    browser.press("Change my password", opens="Password changed")
    assert not service.can_log_in("rosa", "rosa-secret")
    assert service.can_log_in("rosa", NEW_PASSWORD)
    assert service.fetch(IS_VERIFIED, "rosa") == [(True,)]
    assert browser.console() == []


def test_rejected_password_keeps_the_person_on_the_page(service: Service, browser: Browser) -> None:
    service.register("paul")
    browser.open(service.forget_password("paul"))
    browser.fill("New password", TOO_LONG_PASSWORD)
    browser.press("Change my password", opens="Choose a new password")
    label, description, is_invalid = browser.focused_field()
    assert (label, is_invalid) == ("New password", True)
    assert "at most 72 bytes" in description and "At least 8 characters." in description
    assert service.can_log_in("paul", "paul-secret")
    browser.fill("New password", NEW_PASSWORD)
    browser.press("Change my password", opens="Password changed")
    assert service.can_log_in("paul", NEW_PASSWORD)


def test_owner_who_reports_a_change_shuts_out_the_thief(service: Service, browser: Browser) -> None:
    thief, link = service.change_password("owen", THIEFS_PASSWORD)
    browser.open(link)
    assert "owen@example.test" in browser.text
    assert service.process.request("GET", "/api/user", token=thief)[0] == 200
    browser.press("This was not me: secure the account", opens="Your account is safe again")
    assert service.process.request("GET", "/api/user", token=thief)[0] == 401
    assert not service.can_log_in("owen", THIEFS_PASSWORD)
    browser.open(service.link_to("owen", "reset-password"))
    browser.fill("New password", NEW_PASSWORD)
    browser.press("Change my password", opens="Password changed")
    assert service.can_log_in("owen", NEW_PASSWORD)
    assert browser.console() == []


def test_email_changes_when_its_owner_confirms_it(service: Service, browser: Browser) -> None:
    browser.open(service.change_email("nora", "new-nora"))
    assert "new-nora@example.test" in browser.text
    assert service.can_log_in("nora", "nora-secret")
    browser.press("Confirm my new email", opens="Email changed")
    assert service.can_log_in("new-nora", "nora-secret")
    assert not service.can_log_in("nora", "nora-secret")
    assert browser.console() == []


def test_owner_who_reports_a_changed_email_gets_it_back(service: Service, browser: Browser) -> None:
    browser.open(service.change_email("olga", "thief-of-olga"))
    browser.press("Confirm my new email", opens="Email changed")
    assert service.can_log_in("thief-of-olga", "olga-secret")
    browser.open(service.link_to("olga", "report"))
    assert "The email of the account is restored to this one." in browser.text
    browser.press("This was not me: secure the account", opens="Your account is safe again")
    assert not service.can_log_in("thief-of-olga", "olga-secret")
    browser.open(service.link_to("olga", "reset-password"))
    browser.fill("New password", NEW_PASSWORD)
    browser.press("Change my password", opens="Password changed")
    assert service.can_log_in("olga", NEW_PASSWORD)


def test_german_browser_gets_every_page_of_a_form_in_german(
    service: Service, browser: Browser
) -> None:
    service.register("greta")
    browser.prefer("de-AT,de;q=0.9,en;q=0.5")
    browser.open(service.forget_password("greta"))
    browser.fill("Neues Passwort", TOO_LONG_PASSWORD)
    browser.press("Passwort ändern", opens="Wählen Sie ein neues Passwort")
    label, description, is_invalid = browser.focused_field()
    assert (label, is_invalid) == ("Neues Passwort", True)
    assert "höchstens 72 Bytes" in description
    browser.fill("Neues Passwort", NEW_PASSWORD)
    browser.press("Passwort ändern", opens="Passwort geändert")
    assert service.can_log_in("greta", NEW_PASSWORD)
