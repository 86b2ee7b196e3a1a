"""``run.py serve``: run the service."""

from service.accounts.passwords.blocklist import load_blocklist
from service.mail.templates import load_templates
from service.settings.generated_secrets import with_generated_secrets
from service.settings.settings import Settings
from service.supervisor import Supervisor


def serve(settings: Settings) -> int:
    """Migrate the database, then serve requests until a signal stops the service."""
    # Here an error ends the start with one sentence. The workers inherit the templates.
    load_templates(settings)
    load_blocklist(settings)
    return Supervisor(with_generated_secrets(settings)).run()
