"""Where a request comes from."""

from aiohttp import web


def client_address(request: web.BaseRequest) -> str:
    """The client's IP address as text; empty where there is none, as on a Unix socket."""
    return request.remote or ""
