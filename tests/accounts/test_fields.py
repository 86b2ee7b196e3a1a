"""The values that each field of a user accepts and rejects."""

import unicodedata

import pytest

from tests.conftest import Client, Dialect, MakeClient, Response
from tests.responses import assert_error, assert_invalid

NOT_ALLOWED = "has a character that is not allowed"
NO_URL = "is not a valid http(s) URL"
TOO_MANY_BYTES = "is too long (maximum is 72 bytes)"
UNTRIMMED = "can't start or end with a space"


async def register(client: Client, **changes: str) -> Response:
    user = {"username": "jake", "email": "jake@jake.jake", "password": "jakejake", **changes}
    return await client.post("/api/users", {"user": user})


PASSWORDS = {
    "8 characters": "12345678",
    "8 characters of 9 bytes": "1234567é",
    "64 ASCII characters": "a" * 64,
    "72 bytes": "a" * 72,
    "72 bytes in 24 characters": "密" * 24,
    "every printable ASCII character, first half": "".join(map(chr, range(32, 80))),
    "every printable ASCII character, second half": "".join(map(chr, range(80, 127))),
    "inner, leading and trailing spaces": "  two words  ",
    "emoji": "🐘🦣🐘🦣🐘🦣🐘🦣",
    "eight joined characters": "👩‍👩‍👧‍👦👩",
    "quotes and SQL": "'; drop table users; --",
    "a tab and a newline": "tab\tnewline\n",
}


@pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS)
async def test_password_accepts_any_characters(client: Client, password: str) -> None:
    assert (await register(client, password=password)).status == 200
    credentials = {"email": "jake@jake.jake", "password": password}
    assert (await client.post("/api/users/login", {"user": credentials})).status == 200
    for other in (password + "x", password[:-1], password.swapcase() + " "):
        credentials["password"] = other
        response = await client.post("/api/users/login", {"user": credentials})
        assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})


BAD_PASSWORDS = {
    "7 characters": ("1234567", "is too short (minimum is 8 characters)"),
    "7 characters of 28 bytes": ("🐘" * 7, "is too short (minimum is 8 characters)"),
    "73 bytes": ("a" * 73, TOO_MANY_BYTES),
    "73 bytes in 72 characters": ("a" * 71 + "é", TOO_MANY_BYTES),
    "64 characters of two bytes": ("é" * 64, TOO_MANY_BYTES),
    "100,000 characters": ("a" * 100_000, TOO_MANY_BYTES),
    "8 spaces": (" " * 8, "can't be blank"),
}


@pytest.mark.parametrize(("password", "message"), BAD_PASSWORDS.values(), ids=BAD_PASSWORDS)
async def test_password_rejects_wrong_lengths(
    dialect_client: Client, dialect: Dialect, password: str, message: str
) -> None:
    assert_invalid(
        await register(dialect_client, password=password), dialect.invalid, password=message
    )
    token = await dialect_client.register("alice")
    change = await dialect_client.put("/api/user", {"user": {"password": password}}, token=token)
    assert_invalid(change, dialect.invalid, password=message)


async def test_login_gets_invalid_credentials_for_a_wrong_password_of_any_length(
    client: Client,
) -> None:
    await client.register("jake", password="a" * 72)
    for length in (1, 71, 73, 100_000):
        credentials = {"email": "jake@example.test", "password": "a" * length}
        response = await client.post("/api/users/login", {"user": credentials})
        assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})


async def test_deletion_gets_invalid_credentials_when_the_password_has_extra_characters(
    client: Client,
) -> None:
    token = await client.register("jake", password="a" * 72)
    response = await client.delete("/api/user", {"user": {"password": "a" * 73}}, token=token)
    assert_error(response, 401, "invalid_credentials", {"credentials": ["invalid"]})


USERNAMES = {
    "3 characters": "abc",
    "50 characters": "a" * 50,
    "50 characters of 200 bytes": "🐘" * 50,
    "a slash": "ja/ke",
    "dots": "../..",
    "quotes": "\"ja'ke`",
    "a percent sign": "100%25",
    "a question mark and a hash": "ja?k#e",
    "SQL": "'; drop table users; --",
    "markup": "<script>alert(1)</script>",
    "a backslash": "ja\\ke",
    "inner spaces": "Jake Jr. III",
    "right-to-left text": "יעקב",
    "a joiner": "می\u200cخواهم",
    "an emoji with a variation selector": "I ❤\ufe0f tea",
    "digits": "12345",
    "a keyword": "null",
}


@pytest.mark.parametrize("username", USERNAMES.values(), ids=USERNAMES)
async def test_username_accepts_any_visible_text(client: Client, username: str) -> None:
    response = await register(client, username=username)
    assert (response.status, response.body["user"]["username"]) == (200, username)


async def test_username_is_stored_in_composed_form(client: Client) -> None:
    decomposed = unicodedata.normalize("NFD", "é" * 50)
    response = await register(client, username=decomposed)
    assert (response.status, response.body["user"]["username"]) == (200, "é" * 50)


BAD_USERNAMES = {
    "2 characters": ("ab", "is too short (minimum is 3 characters)"),
    "2 characters, decomposed": ("e\u0301e\u0301", "is too short (minimum is 3 characters)"),
    "51 characters": ("a" * 51, "is too long (maximum is 50 characters)"),
    "51 characters of 204 bytes": ("🐘" * 51, "is too long (maximum is 50 characters)"),
    "half a million characters": ("a" * 500_000, "is too long (maximum is 50 characters)"),
    "a newline": ("ja\nke", NOT_ALLOWED),
    "a tab": ("ja\tke", NOT_ALLOWED),
    "a control character": ("ja\x1bke", NOT_ALLOWED),
    "a C1 control character": ("ja\x85ke", NOT_ALLOWED),
    "a right-to-left override": ("ja\u202eke", NOT_ALLOWED),
    "a bidirectional isolate": ("ja\u2066ke", NOT_ALLOWED),
    "a right-to-left mark": ("ja\u200fke", NOT_ALLOWED),
    "a zero-width space": ("ja\u200bke", NOT_ALLOWED),
    "a byte-order mark": ("\ufeffjake", NOT_ALLOWED),
    "a soft hyphen": ("ja\u00adke", NOT_ALLOWED),
    "a line separator": ("ja\u2028ke", NOT_ALLOWED),
    "a leading space": (" jake", UNTRIMMED),
    "a trailing space": ("jake ", UNTRIMMED),
    "a trailing no-break space": ("jake\u00a0", UNTRIMMED),
    "nothing but joiners": ("\u200c\u200d\u200c", "can't be blank"),
    "nothing but fillers": ("\u3164\u3164\u3164", "can't be blank"),
}


@pytest.mark.parametrize(("username", "message"), BAD_USERNAMES.values(), ids=BAD_USERNAMES)
async def test_username_rejects_invalid_values(
    dialect_client: Client, dialect: Dialect, username: str, message: str
) -> None:
    response = await register(dialect_client, username=username)
    assert_invalid(response, dialect.invalid, username=message)
    token = await dialect_client.register("alice")
    change = await dialect_client.put("/api/user", {"user": {"username": username}}, token=token)
    assert_invalid(change, dialect.invalid, username=message)


@pytest.mark.parametrize("bio", ["a" * 500, "🐘" * 500, "  lines\n\tand tabs ", "\u202eright"])
async def test_bio_accepts_any_text_of_500_characters(client: Client, alice: str, bio: str) -> None:
    response = await client.put("/api/user", {"user": {"bio": bio}}, token=alice)
    assert (response.status, response.body["user"]["bio"]) == (200, bio)


async def test_bio_rejects_501_characters(dialect_client: Client, dialect: Dialect) -> None:
    token = await dialect_client.register("alice")
    response = await dialect_client.put("/api/user", {"user": {"bio": "a" * 501}}, token=token)
    assert_invalid(response, dialect.invalid, bio="is too long (maximum is 500 characters)")


IMAGES = {
    "https": "https://example.test/a.png",
    "http": "http://example.test/a.png",
    "upper case": "HTTPS://EXAMPLE.TEST/A.PNG",
    "a port and a query": "https://example.test:8443/a?size=1&x=%20#part",
    "an IP address as the host": "http://[::1]/a.png",
    "an international host": "https://bücher.example/ä.png",
    "2,048 characters": "https://example.test/" + "a" * 2027,
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
async def test_image_accepts_http_urls(client: Client, alice: str, image: str) -> None:
    assert len(image) <= 2048
    response = await client.put("/api/user", {"user": {"image": image}}, token=alice)
    assert (response.status, response.body["user"]["image"]) == (200, image)


LONG_IMAGE = "https://example.test/" + "a" * 2028
BAD_IMAGES = {
    "2,049 characters": (LONG_IMAGE, "is too long (maximum is 2048 characters)"),
    "javascript": ("javascript:alert(1)", NO_URL),
    "javascript with a host": ("javascript://example.test/%0aalert(1)", NO_URL),
    "data": ("data:image/png;base64,AAAA", NO_URL),
    "file": ("file:///etc/passwd", NO_URL),
    "ftp": ("ftp://example.test/a.png", NO_URL),
    "no scheme": ("example.test/a.png", NO_URL),
    "only slashes": ("//example.test/a.png", NO_URL),
    "no host": ("https:///a.png", NO_URL),
    "a user but no host": ("https://jake@/a.png", NO_URL),
    "a port but no host": ("https://:80/a.png", NO_URL),
    "an impossible port": ("https://example.test:99999/", NO_URL),
    "half an IPv6 address": ("https://[::1/a.png", NO_URL),
    "a space": ("https://example.test/a b.png", NO_URL),
    "a leading space": (" https://example.test/a.png", NO_URL),
    "a newline": ("https://example.test/a\n.png", NO_URL),
    "a tab in the scheme": ("java\tscript:alert(1)", NO_URL),
    "a control character": ("https://example.test/\x07.png", NOT_ALLOWED),
    "a bidirectional override": ("https://example.test/\u202egnp.png", NOT_ALLOWED),
}


@pytest.mark.parametrize(("image", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES)
async def test_image_rejects_other_texts(
    client: Client, alice: str, image: str, message: str
) -> None:
    response = await client.put("/api/user", {"user": {"image": image}}, token=alice)
    assert_invalid(response, 400, image=message)


STRICT_IMAGES = [image for image, _ in BAD_IMAGES.values() if image != LONG_IMAGE]


async def test_strict_image_accepts_any_text(make_client: MakeClient) -> None:
    client = await make_client(realworld_strict=True)
    token = await client.register("alice")
    for image in (*STRICT_IMAGES, '"><script>alert(1)</script>', " ", "\x01" * 2048, "🐘" * 2048):
        response = await client.put("/api/user", {"user": {"image": image}}, token=token)
        assert (response.status, response.body["user"]["image"]) == (200, image)
        shown = await client.get("/api/profiles/alice")
        assert shown.body["profile"]["image"] == image
    response = await client.put("/api/user", {"user": {"image": ""}}, token=token)
    assert (response.status, response.body["user"]["image"]) == (200, None)


async def test_strict_image_rejects_what_cannot_be_stored(make_client: MakeClient) -> None:
    client = await make_client(realworld_strict=True)
    token = await client.register("alice")
    for image, message in ((LONG_IMAGE, BAD_IMAGES["2,049 characters"][1]), ("\0", NOT_ALLOWED)):
        response = await client.put("/api/user", {"user": {"image": image}}, token=token)
        assert_invalid(response, 422, image=message)
    raw = b'{"user": {"image": "\\ud800"}}'
    response = await client.put("/api/user", token=token, data=raw)
    assert_invalid(response, 422, body="is not valid JSON")
