"""``run.py serve``: run the service."""

from importlib import import_module

from service.settings.generated_secrets import with_generated_secrets
from service.settings.settings import Settings
from service.supervisor import Supervisor


def serve(settings: Settings) -> int:
    """Migrate the database, then serve requests until a signal stops the service."""
    if settings.mail_templates is not None:
        # The operator's own files are checked before anything starts.
        import_module("service.mail.templates").load_templates(settings)
    return Supervisor(with_generated_secrets(settings)).run()
