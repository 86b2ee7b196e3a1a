"""Mail: a message, the SMTP server and the outbox. Knows no account."""
