"""Mail: a message, the SMTP server and the outbox. Independent of accounts."""
