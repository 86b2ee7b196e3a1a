"""Test the templates of mails: those of the package, and those of an operator."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.mail.message import Mail, Message
from service.mail.templates import (
    MAX_SUBJECT,
    PACKAGE_FOLDER,
    SAMPLES,
    TemplateError,
    Templates,
    load_templates,
)
from service.settings.settings import Settings

SITE = "accounts.example.org"
VALUES = {"time": "2026-11-24 08:00 UTC", "ip": "192.0.2.1", "minutes": "60"}
OPTIONAL = {"lockout": {"link"}, "verify_email": {"can_decline"}}
"""Values that a mail may lack."""
FLAGS = {"can_decline"}
"""Values that choose a text, and that no mail shows."""
PACKAGE = Templates(None, SITE)
MESSAGES = PACKAGE.render_samples()


def render(templates: Templates = PACKAGE, language: str = "en", **changes: str) -> Message:
    """Return the message of a lockout in ``language``."""
    values = {**VALUES, **changes}
    return templates.render(Mail("alice@example.test", "lockout", language, values))


def error(folder: Path) -> str:
    """Return the error of a start with the templates of ``folder``."""
    with pytest.raises(TemplateError) as rejected:
        Templates(folder, SITE).render_samples()
    return str(rejected.value)


def write(folder: Path, name: str, text: str) -> Path:
    """Write the template ``name`` of an operator. Return its path."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class Body(HTMLParser):
    """The body of an HTML part: its text, its tags, and the targets of its links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(html.partition("</head>")[2])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("ip", "words"),
    [("192.0.2.1", "08:00 UTC from the IP address 192.0.2.1."), ("", "08:00 UTC.")],
)
def test_lockout_message_says_what_when_and_from_where(ip: str, words: str) -> None:
    message = render(ip=ip)
    assert message.subject == "Too many failed logins to your account"
    for part in (message.text, Body(message.html).text):
        part = " ".join(part.split())
        assert words in part
        assert f"your account at {SITE} " in part
        assert "If it was you, try again in 60 minutes." in part


@pytest.mark.parametrize("language", PACKAGE.languages)
@pytest.mark.parametrize("template", SAMPLES)
def test_both_parts_of_a_message_say_the_same(language: str, template: str) -> None:
    """In the HTML part a button with a label has the link, and the subject is the heading."""
    message, link = MESSAGES[language, template], SAMPLES[template].get("link")
    html = Body(message.html)
    body = [line for line in message.text.splitlines() if line != link]
    label = re.findall(r"<a [^>]*>(.*?)</a>", message.html)
    text = html.text.replace("".join(label), "")
    assert text.split() == [*message.subject.split(), *" ".join(body).split()]
    assert html.links == ([link] if link else [])
    assert set(html.tags) <= {"body", "div", "h1", "p", "span", "a"}
    assert f'<html lang="{language}">' in message.html
    if link:
        assert link in message.text.splitlines(), "the link is on a line of its own"


def test_every_language_of_the_package_has_every_template_and_no_other_file() -> None:
    assert PACKAGE.languages == ("en", "de")
    names = {f"{template}.{suffix}" for template in SAMPLES for suffix in ("txt", "html")}
    for language in PACKAGE.languages:
        assert {path.name for path in (PACKAGE_FOLDER / language).iterdir()} == names


@pytest.mark.parametrize("language", PACKAGE.languages)
@pytest.mark.parametrize("template", SAMPLES)
def test_template_uses_each_of_its_values_and_no_other(language: str, template: str) -> None:
    for part in ("text", "html"):
        message = getattr(MESSAGES[language, template], part)
        shown = {name: text for name, text in SAMPLES[template].items() if name not in FLAGS}
        assert [text for text in shown.values() if text not in message] == []
    for name in SAMPLES[template].keys() - OPTIONAL.get(template, set()):
        values = {key: value for key, value in SAMPLES[template].items() if key != name}
        with pytest.raises(TemplateError, match=f"line [0-9]+: '{name}' is undefined"):
            PACKAGE.render(Mail("alice@example.test", template, language, values))


def test_lockout_message_without_a_link_is_rendered() -> None:
    """Such mails were queued by an earlier version, and wait while the service is updated."""
    for language in PACKAGE.languages:
        message = render(language=language)
        assert Body(message.html).links == [] and "7" not in message.text
        assert message.text.split()[-1] in Body(message.html).text


@pytest.mark.parametrize(
    ("values", "words", "other_words"),
    [
        ({"can_decline": "yes"}, "did not register", "not your account"),
        ({"can_decline": ""}, "not your account", "did not register"),
        # Such mails were queued by an earlier version.
        ({}, "not your account", "did not register"),
    ],
)
def test_verification_offers_the_deletion_only_where_the_page_does(
    values: dict[str, str], words: str, other_words: str
) -> None:
    sample = {**SAMPLES["verify_email"]}
    del sample["can_decline"]
    mail = Mail("alice@example.test", "verify_email", "en", {**sample, **values})
    message = PACKAGE.render(mail)
    for part in (message.text, message.html):
        assert words in " ".join(part.split()) and other_words not in " ".join(part.split())
        assert ("deletes the account" in part) is (words == "did not register")


def test_html_part_escapes_hostile_values() -> None:
    message = render(ip="<script>alert(1)</script>\"'&")
    assert "<script>" not in message.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in message.html
    assert "<script>alert(1)</script>\"'&" in message.text


@pytest.mark.parametrize(
    "value", ["x\r\nBcc: x@y.z", "x\nSubject: y", "x\x00", "\u2028x", "\u202ex"]
)
def test_value_with_a_line_break_or_control_character_is_an_error(value: str) -> None:
    with pytest.raises(TemplateError, match="The value ip of lockout is not printable"):
        render(ip=value)


def test_unknown_language_and_template_without_translation_are_rendered_in_english(
    tmp_path: Path,
) -> None:
    (tmp_path / "fr").mkdir()
    templates = Templates(tmp_path, SITE)
    assert templates.languages == ("en", "de", "fr")
    assert render(templates, "fr") == render(templates, "xx") == render()
    assert 'lang="en"' in render(templates, "fr").html
    assert render(templates, "de").subject != render().subject


def test_operator_adds_a_language(tmp_path: Path) -> None:
    write(tmp_path, "pt-BR/lockout.txt", "Subject: Olá\n\n{{ ip }} {{ site }}\n")
    write(tmp_path, "pt-BR/lockout.html", "{{ subject }} {{ language }}")
    message = Templates(tmp_path, SITE).render_samples()["pt-BR", "lockout"]
    assert message == Message("Olá", f"192.0.2.1 {SITE}\n", "Olá pt-BR")


def test_operator_replaces_single_files(tmp_path: Path) -> None:
    write(tmp_path, "en/lockout.txt", "Subject: Locked\n\nSince {{ time }}.\n")
    write(tmp_path, "layout.html", "<b>{% block content %}{% endblock %}</b>")
    message = render(Templates(tmp_path, SITE))
    assert (message.subject, message.text) == ("Locked", "Since 2026-11-24 08:00 UTC.\n")
    assert message.html.startswith("<b>") and "try again in 60 minutes" in message.html


BROKEN = {
    "a syntax error": ("Subject: x\n\n{{ ip", "line 3: unexpected end of template"),
    "an unknown tag": ("Subject: x\n{% nope %}", "line 2: Encountered unknown tag 'nope'"),
    "a misspelt value": ("Subject: x\n\na\n{{ iq }}\n", "line 4: 'iq' is undefined"),
    "an unknown filter": ("Subject: x\n{{ ip|nope }}", "line 2: No filter named 'nope'"),
    "a failing expression": ("Subject: x\n{{ 1 // 0 }}", "line 2: integer division or modulo by"),
    "a missing file": ("Subject: x\n{% include 'y' %}", "line 2: y does not exist"),
    "no subject": ("Hello {{ ip }}\n", "line 1 must be a subject: Subject: ..."),
    "an empty subject": ("Subject: \n\nHello\n", "line 1 must be a subject: Subject: ..."),
    "an empty file": ("", "line 1 must be a subject: Subject: ..."),
    "a subject with a control character": (
        "Subject: a{{ '\\r' }}Bcc: x@y.z\n",
        "line 1 must be a subject",
    ),
    "a long subject": (f"Subject: {'x' * (MAX_SUBJECT + 1)}\n", "line 1 must be a subject"),
    "code": (
        "Subject: x\n{{ ''.__class__.__mro__ }}",
        "line 2: access to attribute '__class__' of 'str' object is unsafe",
    ),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_template_is_one_sentence_with_file_and_line(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = write(tmp_path, "en/lockout.txt", text)
    sentence = error(tmp_path)
    assert sentence.startswith(f"{path}, {reason}")
    assert sentence.endswith(".") and "\n" not in sentence


def test_error_names_the_file_that_contains_it(tmp_path: Path) -> None:
    write(tmp_path, "en/lockout.html", "{% extends 'layout.html' %}\n")
    layout = write(tmp_path, "layout.html", "<p>\n{{ nobody }}\n</p>")
    assert error(tmp_path) == f"{layout}, line 2: 'nobody' is undefined."


def test_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "de/lockout.txt", "")
    path.write_bytes("Subject: Prüfung\n".encode("latin-1"))
    assert error(tmp_path).startswith(f"{path}: 'utf-8' codec can't decode byte 0xfc")


def test_misspelt_file_name_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "en/lokout.txt", "Subject: x\n")
    assert error(tmp_path).startswith(f"{path} is not a template: the templates are lockout")


@pytest.mark.parametrize(("given", "missing"), [("txt", "html"), ("html", "txt")])
def test_language_with_half_a_template_is_an_error(
    tmp_path: Path, given: str, missing: str
) -> None:
    write(tmp_path, f"fr/lockout.{given}", "Subject: x\n")
    sentence = f"fr/lockout.{missing} is missing: each template has a .txt and a .html."
    assert error(tmp_path) == sentence


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as rejected:
        Templates(tmp_path / "x", SITE)
    assert str(rejected.value) == f"MAIL_TEMPLATES names {tmp_path}/x, which is not a folder."


def test_folder_without_read_permission_is_an_error(unprivileged: Path) -> None:
    folder = unprivileged / "mails"
    folder.mkdir()
    folder.chmod(0)
    with pytest.raises(TemplateError) as rejected:
        Templates(folder, SITE)
    assert str(rejected.value) == f"{folder} cannot be read: Permission denied."


def test_settings_choose_the_folder_and_the_name_of_the_site(tmp_path: Path) -> None:
    write(tmp_path, "en/lockout.txt", "Subject: {{ site }}\n")
    for base_url, site in ((None, "localhost:3000"), ("https://x.example.org", "x.example.org")):
        settings = Settings(mail_templates=tmp_path, base_url=base_url)
        assert render(load_templates(settings)).subject == site
        assert load_templates(settings) is load_templates(settings), "they are compiled once"
