"""``run.py serve``: run the service."""

from importlib import import_module

from service.preparation import check_new_version
from service.reload import Handover
from service.settings.generated_secrets import with_generated_secrets
from service.settings.settings import Settings
from service.supervisor import Supervisor


def serve(settings: Settings, handover: int | None = None, check: bool = False) -> int:
    """Migrate the database, then serve requests until a signal stops the service."""
    # After a reload, `handover` is the descriptor of what the former version passed on. With
    # `check`, only check whether this version can take over.
    if settings.mail_templates is not None:
        # The operator's own files are checked before anything starts.
        import_module("service.mail.templates").load_templates(settings)
    settings = with_generated_secrets(settings)
    inherited = Handover.read(handover) if handover is not None else None
    if check and inherited is not None:
        check_new_version(settings, inherited)
        return 0
    return Supervisor(settings, inherited).run()
