"""Make the links in mails. Only settings are part of a link, never a header of a request.

An attacker chooses the headers ``Host``, ``Forwarded`` and ``X-Forwarded-*`` of a request. A link
made from them would send the token to the attacker's server.
"""

from urllib.parse import urlencode

from service.settings.settings import Settings


def mailed_link(settings: Settings, page: str, token: str) -> str:
    """Return the URL that opens ``page``, such as ``verify-email``, with ``token``.

    It is a page of this service, or with ``FRONTEND_URL`` a page of the front-end.
    """
    query = urlencode({"token": token})
    if settings.frontend_url is not None:
        return f"{settings.frontend_url}/{page}?{query}"
    return f"{settings.public_url}/api/auth/{page}?{query}"
