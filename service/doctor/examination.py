"""Run the checks. Each has a time limit, and the failure of one does not hide the others."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from service.doctor.database_check import check_database
from service.doctor.descriptor_check import check_descriptors
from service.doctor.findings import Check, Context, Finding, problem
from service.doctor.host_check import check_hosts
from service.doctor.listen_check import check_listen
from service.doctor.mail_check import check_mail
from service.doctor.provider_check import check_providers
from service.doctor.secret_check import check_secrets
from service.doctor.service_check import check_service
from service.doctor.settings_check import check_settings
from service.doctor.storage_check import check_storage

TIME_LIMIT = 20.0  # Seconds for one check. They run at the same time.
GRACE = 2.0  # Seconds until a check that ignores its time limit is abandoned.

CHECKS: Mapping[str, Check] = {
    "settings": check_settings,
    "secrets": check_secrets,
    "files": check_descriptors,
    "storage": check_storage,
    "database": check_database,
    "hosts": check_hosts,
    "listen": check_listen,
    "service": check_service,
    "mail": check_mail,
    "providers": check_providers,
}
"""The checks by name, in the order of their results."""


async def examine(
    context: Context, checks: Mapping[str, Check] = CHECKS, time_limit: float = TIME_LIMIT
) -> AsyncIterator[tuple[str, list[Finding]]]:
    """Run all checks at once. Yield the name and the findings of each, in the order of ``checks``.

    No check takes longer than ``time_limit`` seconds and ``GRACE``.
    """
    deadline = asyncio.get_running_loop().time() + time_limit + GRACE
    results: dict[str, list[Finding]] = {name: [] for name in checks}
    tasks = {
        name: asyncio.create_task(_run(check, context, time_limit, results[name]))
        for name, check in checks.items()
    }
    for name, task in tasks.items():
        remaining = deadline - asyncio.get_running_loop().time()
        done, _ = await asyncio.wait({task}, timeout=max(0.0, remaining))
        yield name, [*results[name], *([] if done else [_no_result(time_limit)])]


async def _run(check: Check, context: Context, time_limit: float, findings: list[Finding]) -> None:
    """Append the findings of ``check`` to ``findings``."""
    try:
        async with asyncio.timeout(time_limit):
            async for finding in check(context):
                findings.append(finding)  # noqa: PERF401 - the time limit keeps the earlier ones.
    except TimeoutError:
        findings.append(_no_result(time_limit))
    except Exception as error:
        # Not its text, which may quote a URL with a password.
        message = f"the check failed unexpectedly: {type(error).__name__}"
        findings.append(problem(message, "report it"))


def _no_result(time_limit: float) -> Finding:
    message = f"the check had no result within {time_limit:g} seconds"
    return problem(message, "look for a server or a file system that does not respond")
