"""Convert a libpq connection URL for asyncpg."""

ASYNCPG_URL_PARAMETERS = (
    "host port user password passfile dbname service target_session_attrs sslmode sslcert sslkey"
    " sslpassword sslrootcert sslcrl sslnegotiation ssl_min_protocol_version"
    " ssl_max_protocol_version krbsrvname gsslib application_name options"
)
"""The parameters of a libpq URL that asyncpg also supports."""


def url_for_asyncpg(url: str) -> str:
    """Return ``url`` without the parameters that only libpq supports.

    asyncpg would send each of them to the server as a server setting. If ``url`` lists several
    hosts and no ``target_session_attrs``, request a host that accepts writes.
    """
    head, _, query = url.partition("?")
    understood = ASYNCPG_URL_PARAMETERS.split()
    kept = [part for part in query.split("&") if part.partition("=")[0] in understood]
    hosts = [head.rpartition("@")[2]] + [part for part in kept if part.startswith("host=")]
    if any("," in host for host in hosts) and "target_session_attrs" not in query:
        kept.append("target_session_attrs=read-write")  # Only the primary accepts writes.
    return head + ("?" + "&".join(kept) if kept else "")
