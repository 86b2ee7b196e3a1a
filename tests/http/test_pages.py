"""Test HTML pages, and the choice between HTML and JSON."""

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from jinja2 import UndefinedError
from multidict import CIMultiDict

from service.http.pages import page_templates, prefers_html


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        # Chromium, Firefox and Safari.
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True),
        ("text/html", True),
        ("TEXT/HTML ; Q=1", True),
        ("text/*", True),
        ("text/html;level=1;q=0.5, */*;q=0.4", True),
        ("application/json;q=0.5, text/html;q=0.6", True),
        ("*/*, application/json;q=0", True),
        # curl, fetch, requests.
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/plain, */*", False),
        ("application/*", False),
        ("text/html, application/json", False),
        ("text/html;q=0.4, application/json;q=0.5", False),
        ("text/html;q=0", False),
        ("text/html;q=0, */*", False),
        ("text/plain", False),
        ("text/htmlx", False),
        ("", False),
        (",;,;q=", False),
    ],
)
def test_html_is_preferred_when_its_quality_is_higher(accept: str, html: bool) -> None:
    request = make_mocked_request("GET", "/", CIMultiDict({"Accept": accept}))
    assert prefers_html(request) is html


def test_json_is_preferred_without_an_accept_header() -> None:
    assert not prefers_html(make_mocked_request("GET", "/"))


def test_repeated_accept_headers_count_as_one_list() -> None:
    headers = CIMultiDict([("Accept", "application/json;q=0.1"), ("Accept", "text/html")])
    assert prefers_html(make_mocked_request("GET", "/", headers))


def test_page_values_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<p title="{{ value }}">{{ value }}</p>')
    page = page_templates(tmp_path).get_template("page.html").render(value="<b>\"&'{{ x }}")
    shown = "&lt;b&gt;&#34;&amp;&#39;{{ x }}"
    assert page == f'<p title="{shown}">{shown}</p>'


def test_page_without_a_value_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("{{ value }}")
    with pytest.raises(UndefinedError, match="'value' is undefined"):
        page_templates(tmp_path).get_template("page.html").render()
