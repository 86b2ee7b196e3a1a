"""The OpenAPI document, made from the routes and the schemas that validate."""
