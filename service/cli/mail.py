"""``run.py mail``: look at mails."""

import sys
from pathlib import Path

from service.mail.templates import SUBJECT, load_templates
from service.settings.settings import Settings


def preview(settings: Settings, folder: Path) -> int:
    """Write every mail in every language to files, with sample values."""
    messages = load_templates(settings).render_samples()
    try:
        for (language, template), message in messages.items():
            path = folder / language / template
            path.parent.mkdir(parents=True, exist_ok=True)
            text = f"{SUBJECT}{message.subject}\n\n{message.text}"
            path.with_suffix(".txt").write_text(text, encoding="utf-8")
            path.with_suffix(".html").write_text(message.html, encoding="utf-8")
    except OSError as error:
        print(f"{error.filename} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    print(f"Wrote {len(messages)} mails to {folder}.")
    return 0
