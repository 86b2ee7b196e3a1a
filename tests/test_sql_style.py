"""The one style of SQL, in the queries and in the migrations."""

import re
from pathlib import Path

import asyncpg
import pytest

ROOT = Path(__file__).resolve().parents[1]
QUERIES = sorted([*(ROOT / "sql").rglob("*.sql"), *(ROOT / "tests").rglob("*.sql")])
MIGRATIONS = sorted((ROOT / "migrations").glob("*.sql"))
LINE_LENGTH = 100
INDENT = 4

_COMMENT_OR_STRING = re.compile(r"""--[^\n]*|'(?:[^']|'')*'|"[^"\n]*\"""")


def code_of(text: str) -> str:
    """Return ``text`` without comments. Empty its quoted texts, but keep their lines."""

    def blank(found: re.Match[str]) -> str:
        quote = found[0][0].strip("-")
        return quote + "\n" * found[0].count("\n") + quote

    return _COMMENT_OR_STRING.sub(blank, text)


def errors_of(text: str, *, is_migration: bool = False) -> list[str]:
    """Return what the style forbids in ``text``, each with the number of its line."""
    errors: list[tuple[int, str]] = []
    lines = text.splitlines()
    code_lines = code_of(text).split("\n")
    for number, (line, code) in enumerate(zip(lines, code_lines, strict=False), 1):
        if len(line) > LINE_LENGTH:
            errors.append((number, f"has {len(line)} columns"))
        if line != line.rstrip():
            errors.append((number, "ends with a space"))
        if "\t" in line:
            errors.append((number, "has a tab"))
        if code != code.lower():
            errors.append((number, "is not in lower case"))
        if code.strip() and (len(code) - len(code.lstrip())) % INDENT:
            errors.append((number, f"is not indented by {INDENT}"))
        if ";" in code and not is_migration:
            errors.append((number, "has a semicolon"))
    if not text.endswith("\n") or text.endswith("\n\n"):
        errors.append((len(lines), "does not end with one newline"))
    if not is_migration:
        errors += _layout_errors(lines)
    return [f"line {number} {error}" for number, error in sorted(errors)]


def _layout_errors(lines: list[str]) -> list[tuple[int, str]]:
    """Return the errors in the order of header, comments and statement."""
    errors: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        before = lines[number - 2] if number > 1 else ""
        is_header = line.startswith("-- name:")
        if is_header and number > 1 and before:
            errors.append((number, "is a header without a blank line before it"))
        if not line and not before:
            errors.append((number, "is a second blank line"))
        # Before the first header, a blank line ends the comment that describes the file.
        after = lines[number] if number < len(lines) else ""
        if not line and not after.startswith("-- name:"):
            errors.append((number, "is a blank line inside a query"))
    return errors


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_query_file_follows_the_style(path: Path) -> None:
    assert errors_of(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.name)
def test_migration_follows_the_style(path: Path) -> None:
    assert errors_of(path.read_text(encoding="utf-8"), is_migration=True) == []


async def test_constraints_and_indexes_have_the_names_that_postgresql_gives(
    db: asyncpg.Connection,
) -> None:
    names = await db.fetch(
        """
        select conrelid::regclass::text as table_name, conname as name,
            case contype
                when 'p' then 'pkey' when 'u' then 'key' when 'f' then 'fkey' when 'c' then 'check'
            end as suffix
        from pg_constraint
        where connamespace = 'public'::regnamespace and contype in ('p', 'u', 'f', 'c')
        union all
        select tablename, indexname, 'idx'
        from pg_indexes
        where schemaname = 'public'
            and indexname not in (select conname from pg_constraint where contype in ('p', 'u'))
        """
    )
    ours = [row for row in names if "yoyo" not in row["table_name"]]
    assert ours
    assert [
        row["name"]
        for row in ours
        if not row["name"].startswith(f"{row['table_name']}_")
        or not row["name"].endswith(f"_{row['suffix']}")
    ] == []


GOOD = """-- What this file has.
--
--     list    an indented line

-- name: find(id) -> row
-- Say why; not more.
select name
from things
where id = $1
    and kind = 'A; B'

-- name: count() -> value
select count(*)
from things
"""


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("select name", "SELECT name", "line 7 is not in lower case"),
        ("from things\nwhere", "from things \nwhere", "line 8 ends with a space"),
        ("    and kind", "\tand kind", "line 10 has a tab"),
        ("    and kind", "  and kind", "line 10 is not indented by 4"),
        ("'A; B'", "'A; B';", "line 10 has a semicolon"),
        ("select name", "select name" + ", name" * 15, "line 7 has 101 columns"),
        ("\n\n-- name: count", "\n-- name: count", "is a header without a blank line before it"),
        ("\n\n-- name: count", "\n\n\n-- name: count", "line 12 is a second blank line"),
        ("-- Say why", "\n-- Say why", "line 6 is a blank line inside a query"),
        ("from things\n", "from things\n\n", "does not end with one newline"),
    ],
)
def test_style_finds_each_error(old: str, new: str, error: str) -> None:
    assert errors_of(GOOD) == []
    head, _, tail = GOOD.rpartition(old)
    assert error in "\n".join(errors_of(head + new + tail))
