"""Hosts and origins of URLs."""

import pytest

from service.settings.origins import host_of, is_within, origin_of


@pytest.mark.parametrize(
    ("url", "host", "origin"),
    [
        ("https://example.org", "example.org", "https://example.org"),
        ("https://Example.org/account", "example.org", "https://example.org"),
        ("https://example.org:443/", "example.org", "https://example.org"),
        ("http://example.org:80", "example.org", "http://example.org"),
        ("http://example.org:443", "example.org", "http://example.org:443"),
        ("http://localhost:3000", "localhost", "http://localhost:3000"),
        ("http://[::1]:3000", "::1", "http://[::1]:3000"),
    ],
)
def test_url_has_a_host_and_an_origin(url: str, host: str, origin: str) -> None:
    assert (host_of(url), origin_of(url)) == (host, origin)


@pytest.mark.parametrize("url", ["", "*", "null", "https://[example.org", "android:apk:x"])
def test_other_text_has_no_host(url: str) -> None:
    assert host_of(url) == ""


@pytest.mark.parametrize("host", ["example.org", "app.example.org", "a.b.example.org"])
def test_host_is_within_its_domain_and_those_above(host: str) -> None:
    assert is_within(host, "example.org")


@pytest.mark.parametrize("host", ["", "org", "evil-example.org", "example.org.evil", "example.com"])
def test_other_host_is_not_within_the_domain(host: str) -> None:
    assert not is_within(host, "example.org")
