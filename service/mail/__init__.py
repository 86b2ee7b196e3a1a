"""Mail: a message, the SMTP server and the outbox. This package knows no accounts."""
