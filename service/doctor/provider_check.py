"""Check the identity providers: discovery, the keys, the client, and the callback URL."""

import asyncio
from collections.abc import AsyncIterator

from service.accounts.identity_providers.errors import ClientRejected, InvalidResponse, NoResponse
from service.accounts.identity_providers.provider import Provider
from service.accounts.identity_providers.provider_http import ProviderHttp
from service.accounts.identity_providers.providers import create_providers
from service.doctor.findings import Context, Finding, note, ok, problem


async def check_providers(context: Context) -> AsyncIterator[Finding]:
    """Check the identity providers: discovery, the keys, the client, and the callback URL."""
    http = ProviderHttp()
    providers = create_providers(context.settings, http)
    tasks = [asyncio.create_task(_check(provider)) for provider in providers]
    if not tasks:
        yield note("no identity provider is set up")
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await http.close()
    for name, url in context.settings.callback_urls.items():
        yield note(f"{name}: its callback URL is {url}", "register exactly this URL there")


async def _check(provider: Provider) -> Finding:
    name = provider.name
    try:
        await provider.probe()
    except NoResponse as error:
        return problem(
            f"{name}: the provider does not respond ({error})",
            "check the network and the status page of the provider",
        )
    except ClientRejected as error:
        return problem(
            f"{name}: the provider rejects the client ({error})",
            "correct the client id and the client secret",
        )
    except InvalidResponse as error:
        return problem(
            f"{name}: the response is wrong ({error})",
            f"compare the issuer with that in {provider.issuer}/.well-known/openid-configuration",
        )
    return ok(f"{name}: the provider responds and accepts the client")
