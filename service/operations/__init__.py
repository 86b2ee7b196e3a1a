"""Routes for operations: health, the OpenAPI document and its page."""
