"""Render mails from templates: a subject, a text part and an HTML part in each language.

A language is a folder, and a template is two files in it: ``en/lockout.txt``, whose first line is
the subject, and ``en/lockout.html``. A file in the operator's folder replaces the file of this
package with the same name, and another language is added by adding its folder. A template that a
language does not have is rendered in English.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import (
    ChoiceLoader,
    FileSystemLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment

from service.mail.message import Mail, Message
from service.settings.settings import Settings

PACKAGE_FOLDER = Path(__file__).with_name("templates")
DEFAULT_LANGUAGE = "en"
SUBJECT = "Subject: "
MAX_SUBJECT = 200  # Characters. RFC 5322, section 2.1.1: a line has at most 998.

SAMPLES: Mapping[str, Mapping[str, str]] = {
    "lockout": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "minutes": "60",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "verify_email": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/verify-email?token=kF7n0m9u1uY7b0uXKk9o",
        "hours": "24",
        "can_decline": "yes",
    },
    "change_email": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/confirm-email-change?token=kF7n0m9u1uY7b0uX",
        "hours": "24",
    },
    "reset_password": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/reset-password?token=kF7n0m9u1uY7b0uXKk9o",
        "minutes": "60",
    },
    "unlock_login": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "failures": "100",
        "link": "https://accounts.example.org/api/auth/unlock-login?token=kF7n0m9u1uY7b0uXKk9o",
        "hours": "24",
    },
    "password_changed": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "two_factor_on": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "two_factor_off": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "recovery_code_used": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "recovery_codes_replaced": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "email_changed": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "username_changed": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "passkey_added": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "passkey_removed": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "identity_added": {
        "provider": "Google",
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "identity_removed": {
        "provider": "Google",
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
    "new_sign_in": {
        "time": "2026-11-24 08:00 UTC",
        "ip": "192.0.2.1",
        "link": "https://accounts.example.org/api/auth/report?token=kF7n0m9u1uY7b0uXKk9o",
        "days": "7",
    },
}
"""Every template by name, with an example of each of its values.

A template can use these values and ``site``, the name of this service.
"""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8})*")  # RFC 5646, section 2.1.


class TemplateError(Exception):
    """A template cannot be rendered. The message is one sentence with file and line."""

    exit_status = 2


class Templates:
    """The templates of the package, and those of the operator's ``folder``.

    ``site`` is the name by which the mails call this service. A template is compiled when it is
    rendered for the first time. A change of its file has no effect after that.
    """

    def __init__(self, folder: Path | None, site: str) -> None:
        if folder is not None and not folder.is_dir():
            raise TemplateError(f"MAIL_TEMPLATES names {folder}, which is not a folder.")
        self._site = site
        self._folders = [PACKAGE_FOLDER] if folder is None else [folder, PACKAGE_FOLDER]
        # The person who writes the mails does not need the right to run code: a sandbox. Values are
        # escaped in HTML, and a misspelt value is an error.
        self._environment = ImmutableSandboxedEnvironment(
            loader=ChoiceLoader([FileSystemLoader(folder) for folder in self._folders]),
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            auto_reload=False,
            cache_size=-1,
        )
        names = {path.name for path in self._language_folders()}
        self.languages = (DEFAULT_LANGUAGE, *sorted(names - {DEFAULT_LANGUAGE}))
        """The languages of all folders. The default language is the first."""

    def render(self, mail: Mail) -> Message:
        """Return the message of ``mail``. Raise ``TemplateError`` if it cannot be rendered."""
        return self._render(mail.template, mail.language, mail.values)

    def render_samples(self) -> dict[tuple[str, str], Message]:
        """Return the message of each language and template, with the values of ``SAMPLES``.

        Raise ``TemplateError`` if one of them cannot be rendered, or if a folder contains a file
        that is no template.
        """
        for folder in self._language_folders():
            for path in _entries(folder):
                if path.suffix in (".txt", ".html") and path.stem not in SAMPLES:
                    known = ", ".join(SAMPLES)
                    raise TemplateError(f"{path} is not a template: the templates are {known}.")
        return {
            (language, template): self._render(template, language, values)
            for language in self.languages
            for template, values in SAMPLES.items()
        }

    def _language_folders(self) -> list[Path]:
        """Return the folders whose names are languages."""
        return [
            path
            for folder in self._folders
            for path in _entries(folder)
            if path.is_dir() and _LANGUAGE.fullmatch(path.name)
        ]

    def _render(self, template: str, language: str, values: Mapping[str, str]) -> Message:
        language = self._language_with(template, language)
        for name, value in values.items():
            # A line break in a value could add a paragraph of a stranger to the mail.
            if not value.isprintable():
                raise TemplateError(f"The value {name} of {template} is not printable.")
        given = {**values, "site": self._site, "language": language}
        name = f"{language}/{template}.txt"
        first, _, text = self._render_file(name, given).partition("\n")
        subject = first.removeprefix(SUBJECT)
        if subject == first or not subject.isprintable() or not 0 < len(subject) <= MAX_SUBJECT:
            raise TemplateError(f"{self._path(name)}, line 1 must be a subject: {SUBJECT}...")
        html = self._render_file(f"{language}/{template}.html", {**given, "subject": subject})
        return Message(subject, text.strip() + "\n", html)

    def _language_with(self, template: str, language: str) -> str:
        """Return ``language`` if it has ``template``, otherwise the default language."""
        names = [f"{language}/{template}.{suffix}" for suffix in ("txt", "html")]
        missing = [name for name in names if self._path(name) is None]
        if len(missing) == 1:
            raise TemplateError(f"{missing[0]} is missing: each template has a .txt and a .html.")
        return DEFAULT_LANGUAGE if missing else language

    def _path(self, name: str) -> Path | None:
        """Return the path of the file ``name``, or ``None`` if no folder contains it."""
        paths = (folder / name for folder in self._folders)
        return next((path for path in paths if path.is_file()), None)

    def _render_file(self, name: str, values: Mapping[str, str]) -> str:
        try:
            return self._environment.get_template(name).render(values)
        except TemplateSyntaxError as error:
            raise TemplateError(
                f"{error.filename}, line {error.lineno}: {error.message}."
            ) from error
        except Exception as error:
            reason = f"{error} does not exist" if isinstance(error, TemplateNotFound) else error
            raise TemplateError(f"{self._place(error, name)}: {reason}.") from error

    def _place(self, error: Exception, name: str) -> str:
        """Return file and line of the innermost template in the traceback of ``error``."""
        place = f"{self._path(name)}"
        step = error.__traceback__
        while step is not None:
            path = Path(step.tb_frame.f_code.co_filename)
            if any(path.is_relative_to(folder) for folder in self._folders):
                place = f"{path}, line {step.tb_lineno}"
            step = step.tb_next
        return place


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise TemplateError(f"{folder} cannot be read: {error.strerror}.") from error


def load_templates(settings: Settings) -> Templates:
    """Return the templates of ``settings``. Raise ``TemplateError``.

    With a folder of the operator, render each template once: an error must not wait for the first
    mail. The templates of the package are tested. A process and the processes that it forks load
    them once.
    """
    return _load(settings.mail_templates, settings.site)


@functools.cache
def _load(folder: Path | None, site: str) -> Templates:
    templates = Templates(folder, site)
    if folder is not None:
        templates.render_samples()
    return templates
