"""Looks into the emulator from outside, to see what a cluster wrote to a location and what not."""

from __future__ import annotations

from azure.storage.blob import ContainerClient

from tests.cluster.azurite import Azurite


def listing(azurite: Azurite, container: str) -> set[str]:
    """Every blob of a container, by name and entity tag."""
    with ContainerClient(
        azurite.endpoint,
        container,
        credential={"account_name": azurite.account, "account_key": azurite.key},
        connection_verify=str(azurite.ca_file),
    ) as client:
        return {f"{blob.name} {blob.etag}" for blob in client.list_blobs()}
