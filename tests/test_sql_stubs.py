"""Tests of ``sql/__init__.pyi``, which types every query."""

import subprocess
import sys
from pathlib import Path

import pytest

from sql import stubs

ROOT = Path(__file__).resolve().parents[1]

SNIPPET = """import sql

async def use(db: sql.Connection) -> None:
    await sql.users.find_id(db, email_key="a")
    row = await sql.users.find_credentials(db, id=1)
    row["email"]
    await sql.users.find_idd(db, email_key="a")
    await sql.users.find_id(db, email_kye="a")
    await sql.users.find_id(db)
    await sql.users.find_id(db, "a")
    await sql.userz.find_id(db, email_key="a")
"""


def test_stubs_are_current() -> None:
    assert stubs.PATH.read_text(encoding="utf-8") == stubs.render(), "run python -m sql.stubs"


def test_check_reports_a_stub_that_is_not_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stubs, "PATH", tmp_path / "__init__.pyi")
    assert stubs.main(["--check"]) == 1
    assert capsys.readouterr().err == "__init__.pyi is not current: run `make format`\n"
    assert stubs.main([]) == 0
    assert stubs.main(["--check"]) == 0


def test_mypy_rejects_a_misspelt_query_and_wrong_parameters(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    mypy = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "setup.cfg", "--no-pretty", str(snippet)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # The cache of mypy may name the folder of an earlier run.
    lines = [line.partition("snippet.py:")[2] for line in mypy.stdout.splitlines()]
    assert [line for line in lines if ": error: " in line] == [
        '6: error: Value of type "Any | None" is not indexable  [index]',
        '7: error: "_Users" has no attribute "find_idd"; maybe "find_id"?  [attr-defined]',
        '8: error: Unexpected keyword argument "email_kye" for "find_id" of "_Users"; did you mean '
        '"email_key"?  [call-arg]',
        '9: error: Missing named argument "email_key" for "find_id" of "_Users"  [call-arg]',
        '10: error: Too many positional arguments for "find_id" of "_Users"  [call-arg]',
        '11: error: Module has no attribute "userz"; maybe "users"?  [attr-defined]',
    ], mypy.stdout + mypy.stderr
