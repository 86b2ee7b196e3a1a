"""How a request is answered: errors, auth, validation, logs. Knows no resource."""
