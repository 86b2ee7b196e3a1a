"""Check how many connections the limit of open files allows."""

import resource
from collections.abc import AsyncIterator

from service.doctor.findings import Context, Finding, ok, problem
from service.http.connections import connections_within

MIN_CONNECTIONS = 1000


async def check_descriptors(context: Context) -> AsyncIterator[Finding]:
    """Check how many connections the limit of open files allows.

    The start raises the soft limit to the hard limit. A process manager may set another one than
    the shell of this command.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = connections_within(hard, context.settings.database_pool_size)
    limit = "no limit of open files" if hard == resource.RLIM_INFINITY else f"{hard} open files"
    message = f"{limit} (ulimit -Hn, in this shell): {allowed} connections in each process"
    if allowed < MIN_CONNECTIONS:
        yield problem(message, "raise the hard limit, such as LimitNOFILE=65536 of systemd")
    else:
        yield ok(message)
