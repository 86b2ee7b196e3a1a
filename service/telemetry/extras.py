"""Import a library that only some deployments install."""

from importlib import import_module
from typing import Any


class ExtraMissing(Exception):
    """A setting needs a package that is not installed. The message is one sentence."""

    exit_status = 2


def import_extra(module: str, *, extra: str, setting: str) -> Any:
    """Return ``module``, which ``setting`` needs. Raise ``ExtraMissing``, which names ``extra``."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise ExtraMissing(
            f"{setting} is set, but the package {missing.name} is not installed. "
            f"Install it with: pip install -c requirements.txt '.[{extra}]'"
        ) from None
