"""Locations in Azurite, as users describe them, and their credentials."""

from __future__ import annotations

import asyncio
import secrets

from ararat.api.location import Authentication, AzureLocation
from tests.cluster.azurite import Azurite


def location(
    azurite: Azurite,
    container: str,
    *,
    prefix: str = "",
    authentication: Authentication = Authentication.ACCOUNT_KEY,
    endpoint: str | None = None,
    ca_bundle: str | None = None,
) -> AzureLocation:
    return AzureLocation(
        account_name=azurite.account,
        container=container,
        prefix=prefix,
        endpoint=endpoint or azurite.endpoint,
        authentication=authentication,
        credentials_secret="azure",
        ca_bundle=ca_bundle or azurite.ca_pem,
    )


def account_key(azurite: Azurite) -> dict[str, bytes]:
    """The data of the Secret ``azure``."""
    return {"accountKey": azurite.key.encode()}


async def new_container(azurite: Azurite) -> str:
    """A container that no other test uses; the product never makes one itself."""
    name = f"t{secrets.token_hex(6)}"
    await asyncio.to_thread(azurite.create_container, name)
    return name
