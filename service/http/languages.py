"""Choose the language of a request from its ``Accept-Language`` header."""

import re
from functools import lru_cache

from aiohttp import hdrs, web

MAX_HEADER = 200  # Characters of the ``Accept-Language`` header that are read.

LANGUAGES = web.AppKey("languages", tuple[str, ...])
"""The languages of the mails, such as ``en`` and ``pt-BR``. The first one is the default."""

# RFC 9110, sections 12.4.2 and 12.5.4.
_RANGE = re.compile(
    r"[ \t]*([a-z]{1,8}(?:-[a-z0-9]{1,8})*)[ \t]*"
    r"(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?",
    re.IGNORECASE | re.ASCII,
)


def language_of(request: web.Request, available: tuple[str, ...]) -> str:
    """Return the language of ``available`` that the client of ``request`` prefers."""
    header = ",".join(request.headers.getall(hdrs.ACCEPT_LANGUAGE, ()))
    return choose_language(header[:MAX_HEADER], available)


@lru_cache(maxsize=1024)
def choose_language(header: str, available: tuple[str, ...]) -> str:
    """Return the language of ``available`` that an ``Accept-Language`` header prefers.

    Look up the ranges with the highest quality first, and of equal ones the first. Shorten each
    range until a language has its name (RFC 4647, section 3.4): ``de-AT`` finds ``de``. Ignore a
    part of the header that is not a range. Return the first language if no range finds one.
    """
    known = {language.lower(): language for language in available}
    ranges = [match.groups() for part in header.split(",") if (match := _RANGE.fullmatch(part))]
    for name, quality in sorted(ranges, key=lambda found: -float(found[1] or 1)):
        if quality is not None and float(quality) == 0:
            continue
        subtags = name.lower().split("-")
        while subtags:
            if language := known.get("-".join(subtags)):
                return language
            subtags.pop()
    return available[0]
