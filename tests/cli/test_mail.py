"""Test ``run.py mail`` as a process: its list, ``retry`` and ``preview``."""

from pathlib import Path

from service.mail.templates import SAMPLES
from tests.processes import RUN, Process


def preview(folder: Path, *arguments: str, **environment: str) -> Process:
    """Run ``mail preview`` in ``folder`` until it exits."""
    with Process((*RUN, "mail", "preview", *arguments), folder, environment) as process:
        process.wait_for_exit()
    return process


def test_preview_writes_every_mail_in_every_language(tmp_path: Path) -> None:
    process = preview(tmp_path, BASE_URL="https://accounts.example.org")
    written = tmp_path / "mail-preview"
    assert process.out == f"Wrote {2 * len(SAMPLES)} mails to mail-preview.\n"
    assert {str(path.relative_to(written)) for path in written.rglob("*.*")} == {
        f"{language}/{template}.{suffix}"
        for language in ("de", "en")
        for template in SAMPLES
        for suffix in ("txt", "html")
    }
    text = (written / "en/lockout.txt").read_text()
    assert text.startswith("Subject: Too many failed logins to your account\n\nThere were too many")
    assert "account at accounts.example.org" in text
    assert (written / "de/lockout.html").read_text().startswith("<!doctype html>\n")


def test_preview_writes_the_mails_of_an_operator_to_the_given_folder(tmp_path: Path) -> None:
    own = tmp_path / "own" / "en"
    own.mkdir(parents=True)
    (own / "lockout.txt").write_text("Subject: Locked\n\nTry again.\n")
    process = preview(tmp_path, "here/and there", MAIL_TEMPLATES="own")
    assert process.out.endswith(" mails to here/and there.\n")
    text = (tmp_path / "here/and there/en/lockout.txt").read_text()
    assert text == "Subject: Locked\n\nTry again.\n"


def test_preview_reports_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = preview(tmp_path, "file")
    assert process.wait_for_exit() == 1
    assert process.err == "file/en cannot be written: Not a directory.\n"


def test_broken_template_ends_preview_and_start_with_one_sentence(tmp_path: Path) -> None:
    own = tmp_path / "own" / "en"
    own.mkdir(parents=True)
    (own / "lockout.txt").write_text("Subject: x\n\n{{ nobody }}\n")
    sentence = "own/en/lockout.txt, line 3: 'nobody' is undefined.\n"
    for command in (("mail", "preview"), ("serve",)):
        with Process((*RUN, *command), tmp_path, {"MAIL_TEMPLATES": "own"}) as process:
            assert process.wait_for_exit() == 2
            assert (process.out, process.err) == ("", sentence)
