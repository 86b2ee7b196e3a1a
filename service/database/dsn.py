"""The connection URL, as asyncpg takes it."""

ASYNCPG_URL_PARAMETERS = (
    "host port user password passfile dbname service target_session_attrs sslmode sslcert sslkey"
    " sslpassword sslrootcert sslcrl sslnegotiation ssl_min_protocol_version"
    " ssl_max_protocol_version krbsrvname gsslib application_name options"
)
"""The parameters of a libpq URL that asyncpg understands too."""


def url_for_asyncpg(url: str) -> str:
    """``url`` without what only libpq knows: asyncpg takes that for settings of the server."""
    head, _, query = url.partition("?")
    understood = ASYNCPG_URL_PARAMETERS.split()
    kept = [part for part in query.split("&") if part.partition("=")[0] in understood]
    hosts = [head.rpartition("@")[2]] + [part for part in kept if part.startswith("host=")]
    if any("," in host for host in hosts) and "target_session_attrs" not in query:
        kept.append("target_session_attrs=read-write")  # The one of them that takes changes.
    return head + ("?" + "&".join(kept) if kept else "")
