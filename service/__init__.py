"""The service. Its version stands here and nowhere else: setup.cfg reads it without an import."""

__version__ = "0.1.0"
