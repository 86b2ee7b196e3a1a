"""Generate the OpenAPI document from the routes and their validation schemas."""
