"""Text for a terminal: safe, aligned and within its width."""

import io
import sys

import orjson
import pytest

from service.cli.terminal import NoTerminalError, confirm, cut, escape_json, safe, table, width_of

UNSAFE = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0xAD, 0xE000, 0xF0000)] + list(
    "\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\ufeff\udc1b\U000e0041"
)


@pytest.mark.parametrize("character", UNSAFE, ids=lambda character: f"{ord(character):x}")
def test_safe_replaces_each_character_that_controls_a_terminal(character: str) -> None:
    assert safe(f"a{character}b") == "a\ufffdb"
    if not "\ud800" <= character <= "\udfff":
        text = orjson.dumps([f"a{character}b"]).decode()
        escaped = escape_json(text)
        assert character not in escaped
        assert orjson.loads(escaped) == [f"a{character}b"]


def test_safe_keeps_every_script_and_emoji() -> None:
    for text in ("Jörg", "山田", "نور", "क्\u200dष", "👩\u200d💻", "e\u0301", "a b"):
        assert safe(text) == text


@pytest.mark.parametrize(
    ("text", "width"),
    [("jake", 4), ("山田", 4), ("e\u0301", 1), ("👍", 2), ("a\u200db", 2), ("", 0)],
)
def test_width_is_that_of_the_columns(text: str, width: int) -> None:
    assert width_of(text) == width


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("jake", 4, "jake"),
        ("jake", 3, "ja…"),
        ("山田太郎", 8, "山田太郎"),
        ("山田太郎", 7, "山田太…"),
        ("山田太郎", 6, "山田…"),
        ("jake", 1, "…"),
        ("jake", 0, ""),
    ],
)
def test_cut_fits_into_the_width(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown
    assert width_of(shown) <= width


def test_table_aligns_its_columns() -> None:
    assert table(("NAME", "N"), [("山田", 1), ("j", 2222), ("longer", "")], None) == [
        "NAME    N",
        "山田    1",
        "j       2222",
        "longer",
    ]


@pytest.mark.parametrize("width", [80, 60, 40, 25, 10, 3, 1])
def test_table_fits_into_the_width(width: int) -> None:
    rows = [("jake" * 10, "j@x.test" * 10, "2026-11-28 08:53"), ("山" * 30, "\x1b[2J", "")]
    lines = table(("USERNAME", "EMAIL", "REGISTERED"), rows, width)
    assert len(lines) == 3
    assert all(width_of(line) <= width for line in lines)
    assert "\x1b" not in "".join(lines)
    if width == 80:
        # The columns that need no space keep theirs.
        assert lines[1].endswith("2026-11-28 08:53")


def test_confirm_asks_nobody_with_yes_or_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert confirm("Delete it?", yes=True, otherwise="delete it")
    with pytest.raises(NoTerminalError) as raised:
        confirm("Delete it?", yes=False, otherwise="delete it")
    assert raised.value.exit_status == 2
    assert str(raised.value) == (
        "Nothing was done: there is no terminal to ask. Add --yes to delete it."
    )
