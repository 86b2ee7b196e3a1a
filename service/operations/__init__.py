"""Routes about the service itself: health, the OpenAPI document and its page."""
