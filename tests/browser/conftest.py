"""Fixtures: the service and an OpenID provider as processes, and Chromium.

Each starts once for this folder.
"""

import os
import shutil
from collections.abc import Callable, Iterator

import psycopg
import pytest
from selenium.webdriver import Chrome

from tests.browser.browser import Browser, start_chromium
from tests.browser.front_end import serve_front_end
from tests.browser.service import Service
from tests.oidc_provider.process import OIDCProvider, start_provider
from tests.processes import SECRET, serve

BROWSERS = ("chromium", "google-chrome")


@pytest.fixture(scope="package")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Start Chromium. Without one, skip the test, but fail in CI."""
    driver = shutil.which("chromedriver")
    if driver is None or not any(map(shutil.which, BROWSERS)):
        missing = "no browser: apt-get install chromium chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    profile = tmp_path_factory.mktemp("chromium")
    chromium = start_chromium(driver, profile)
    yield chromium
    chromium.quit()
    # pytest keeps the folders of the last three runs, and a profile has some 10 MB.
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="package")
def front_end() -> Iterator[str]:
    """Serve an empty page of another origin, and return that origin."""
    with serve_front_end() as origin:
        yield origin


@pytest.fixture(scope="package")
def oidc_provider(
    chromium: Chrome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OIDCProvider]:
    """Start an OpenID provider. Without Node.js, skip the test, but fail in CI."""
    with start_provider(tmp_path_factory.mktemp("oidc_provider")) as provider:
        yield provider


@pytest.fixture(scope="package")
def service(
    chromium: Chrome,
    front_end: str,
    new_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Start the service. It prints its mails to the log. The front-end may call it."""
    url = new_database()
    folder = tmp_path_factory.mktemp("service")
    key = SECRET.replace(",", "")
    with (
        serve(folder, DATABASE_URL=url, CORS_ORIGINS=front_end, ENCRYPTION_KEYS=key) as process,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        yield Service(process.wait_until_serving(), connection)


@pytest.fixture
def browser(chromium: Chrome) -> Iterator[Browser]:
    """Open a tab for the test."""
    browser = Browser(chromium)
    yield browser
    browser.close()
