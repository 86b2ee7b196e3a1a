"""HTTP conventions: routes, errors, authentication, validation, logs. Knows no resource."""
