"""Chromium without a window, driven as a person uses it."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.support.wait import WebDriverWait

from tests.processes import MAX_WAIT

AXE = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
RUN_AXE = "axe.run().then(arguments[0], error => arguments[0]({error: String(error)}))"

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's sandbox does not start as root.
    "--disable-dev-shm-usage",  # /dev/shm of a container has 64 MB.
    "--disable-gpu",
    "--no-first-run",
    # Only the service is reached: no updates, no reports, no other host.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
)


def start_chromium(driver: str, profile: Path) -> Chrome:
    """Start Chromium with the ChromeDriver at the path ``driver`` and the new folder ``profile``.

    ChromeDriver finds the browser. With its path given, Selenium downloads nothing.
    """
    options = ChromeOptions()
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = Chrome(options, ChromeService(driver))
    chromium.set_page_load_timeout(MAX_WAIT)
    chromium.set_script_timeout(MAX_WAIT)
    return chromium


class ScriptError(Exception):
    """A script in the page threw an exception. The message is that of the exception."""


class Browser:
    """One tab. Every wait ends when its condition is true, or fails after ``MAX_WAIT``."""

    def __init__(self, chromium: Chrome) -> None:
        """Open the tab. Only one tab is used at a time: this one until ``close``."""
        self._chromium = chromium
        self._first_tab = chromium.current_window_handle
        chromium.switch_to.new_window("tab")
        self.console()

    def close(self) -> None:
        """Close the tab, with everything that it emulates. Delete all cookies."""
        if self._chromium.virtual_authenticator_id is not None:
            self._chromium.remove_virtual_authenticator()
        self._chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self._chromium.close()
        self._chromium.switch_to.window(self._first_tab)

    def open(self, url: str) -> None:
        """Open ``url`` and wait until the page and its files are loaded."""
        self._chromium.get(url)

    def replace_page(self, html: str) -> None:
        """Show ``html`` in place of the page, under the URL and the policy of the page."""
        tree: dict[str, Any] = self._chromium.execute_cdp_cmd("Page.getFrameTree", {})
        shown = {"frameId": tree["frameTree"]["frame"]["id"], "html": html}
        self._chromium.execute_cdp_cmd("Page.setDocumentContent", shown)
        is_styled = "return document.styleSheets.length === 1 && document.readyState === 'complete'"
        self._wait_until(lambda: self._chromium.execute_script(is_styled))

    def prefer(self, language: str) -> None:
        """Open pages from now on as a person who prefers ``language``."""
        self._chromium.execute_cdp_cmd("Network.enable", {})
        headers = {"headers": {"Accept-Language": language}}
        self._chromium.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)

    @property
    def url(self) -> str:
        """Return the URL of the page."""
        return self._chromium.current_url

    @property
    def heading(self) -> str:
        """Return the text of the heading of the page."""
        return self._chromium.find_element(By.TAG_NAME, "h1").text

    @property
    def text(self) -> str:
        """Return the text that the page shows."""
        return self._chromium.find_element(By.TAG_NAME, "body").text

    def buttons(self) -> list[str]:
        """Return the texts of the buttons."""
        return [button.text for button in self._chromium.find_elements(By.TAG_NAME, "button")]

    def fill_placeholder(self, placeholder: str, text: str) -> None:
        """Type ``text`` into the field that has this placeholder and no label."""
        selector = f"input[placeholder='{placeholder}']"
        self._chromium.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def fill(self, label: str, text: str) -> None:
        """Type ``text`` into the field with this label."""
        found = self._chromium.find_element(By.XPATH, f"//label[normalize-space()='{label}']")
        self._chromium.find_element(By.ID, str(found.get_attribute("for"))).send_keys(text)

    def focused_field(self) -> tuple[str, str, bool]:
        """Return what a screen reader says about the field that has the focus.

        That is its label, its description, and whether its last value was invalid.
        """
        field = self._chromium.switch_to.active_element
        label = self._chromium.find_element(
            By.CSS_SELECTOR, f"label[for='{field.get_attribute('id')}']"
        )
        ids = str(field.get_attribute("aria-describedby")).split()
        texts = [self._chromium.find_element(By.ID, name).text for name in ids]
        return label.text, " ".join(texts), field.get_attribute("aria-invalid") == "true"

    def press(self, button: str, *, opens: str) -> None:
        """Press ``button``, and wait for another page, which has the heading ``opens``."""
        self.leave(button)
        assert self.heading == opens

    def leave(self, button: str) -> None:
        """Press ``button``, and wait for another page, also after redirects."""
        self._chromium.execute_script("window.isLastPage = true")
        self._chromium.find_element(By.XPATH, f"//button[normalize-space()='{button}']").click()
        is_loaded = "return !window.isLastPage && document.readyState === 'complete'"
        self._wait_until(lambda: self._chromium.execute_script(is_loaded))

    def wait_for(self, selector: str) -> None:
        """Wait until the page has an element for the CSS ``selector``."""
        self._wait_until(lambda: self._chromium.find_element(By.CSS_SELECTOR, selector))

    def show(self, *, width: int, scheme: str) -> None:
        """Show the page ``width`` CSS pixels wide, in the colours of the ``scheme``."""
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self._chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def is_scrolled_sideways(self) -> bool:
        """Return whether a part of the page is outside the width of the window."""
        script = "return document.documentElement.scrollWidth > window.innerWidth"
        return bool(self._chromium.execute_script(script))

    def add_authenticator(self, *, verifies_user: bool = True) -> None:
        """Add an authenticator that keeps passkeys, as that of a laptop, and that needs no person.

        ``verifies_user`` tells whether it recognizes the person.
        """
        options = VirtualAuthenticatorOptions()
        options.transport = VirtualAuthenticatorOptions.Transport.INTERNAL
        options.has_resident_key = options.has_user_verification = True
        options.is_user_verified = verifies_user
        self._chromium.add_virtual_authenticator(options)

    def run(self, script: str, **arguments: object) -> Any:
        """Run the body of an async function in the page, and return its result.

        ``arguments`` are variables of the function. Raise ``ScriptError`` with an exception of it.
        """
        names = ", ".join(arguments)
        call = f"""
            const done = arguments[arguments.length - 1];
            (async ({names}) => {{ {script} }})(...[...arguments].slice(0, -1)).then(
                (result) => done({{result}}), (error) => done({{error: String(error)}}));
        """
        outcome: dict[str, Any] = self._chromium.execute_async_script(call, *arguments.values())
        if "error" in outcome:
            raise ScriptError(outcome["error"])
        return outcome.get("result")

    def accessibility_errors(self) -> list[str]:
        """Return each rule of axe-core that the page violates, with the elements."""
        self._chromium.execute_script(AXE)
        result: dict[str, Any] = self._chromium.execute_async_script(RUN_AXE)
        return [
            f"{rule['id']}: {[node['html'] for node in rule['nodes']]}"
            for rule in result["violations"]
        ]

    def pass_time(self, seconds: int) -> None:
        """Let ``seconds`` pass for the page and its scripts.

        Chromium moves the clock of the tab forward. The tab keeps the moved clock.
        """
        self._chromium.execute_cdp_cmd("Emulation.setVirtualTimePolicy", {"policy": "advance"})
        script = f"setTimeout(arguments[0], {seconds * 1000})"
        self._chromium.execute_async_script(script)

    def console(self, origin: str = "") -> list[str]:
        """Return the lines of the console since the last call.

        With ``origin``, leave out the lines that do not begin with it. A line begins with the URL
        of the page or of the file that it is about.
        """
        lines = self._chromium.get_log("browser")  # type: ignore[no-untyped-call]
        return [line["message"] for line in lines if line["message"].startswith(origin)]

    def _wait_until(self, condition: Any) -> None:
        # The elements of the last page are stale while the next one loads.
        ignored = (NoSuchElementException, StaleElementReferenceException)
        WebDriverWait(self._chromium, MAX_WAIT, 0.05, ignored).until(lambda _: condition())
