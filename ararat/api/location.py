"""BackupLocation: where backups are kept."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field, model_validator

from .base import Model, Resource, Status


class Authentication(StrEnum):
    WORKLOAD_IDENTITY = "WorkloadIdentity"
    MANAGED_IDENTITY = "ManagedIdentity"
    SERVICE_PRINCIPAL = "ServicePrincipal"
    ACCOUNT_KEY = "AccountKey"
    SAS = "SAS"


class AccessMode(StrEnum):
    READ_WRITE = "ReadWrite"
    READ_ONLY = "ReadOnly"


class AccessTier(StrEnum):
    HOT = "Hot"
    COOL = "Cool"
    COLD = "Cold"


class Cloud(StrEnum):
    PUBLIC = "AzurePublic"
    US_GOVERNMENT = "AzureUSGovernment"
    CHINA = "AzureChina"


class AzureLocation(Model):
    """A container in Azure Blob Storage, and a prefix in it."""

    account_name: str = Field(min_length=3, description="Storage account.")
    container: str = Field(min_length=3, description="Container; it must exist.")
    prefix: str = Field(default="", description="Folder within the container; empty is its root.")
    endpoint: str | None = Field(
        default=None,
        description="Blob service URL, for private endpoints and emulators; by default "
        "https://<accountName>.blob.core.windows.net, or its like in another cloud.",
    )
    cloud: Cloud | None = Field(
        default=None,
        description="Which Azure the account is in: chooses the Blob service's domain and the "
        "authority to log in at. Unset: AzurePublic, or what the pod's identity webhook says.",
    )
    authentication: Authentication = Field(
        default=Authentication.WORKLOAD_IDENTITY, description="How to log in."
    )
    client_id: str | None = Field(
        default=None,
        description="Client ID of the service principal, or of the identity where there are "
        "several.",
    )
    tenant_id: str | None = Field(
        default=None, description="Directory (tenant) ID of the service principal or identity."
    )
    credentials_secret: str | None = Field(
        default=None,
        description="Secret in Ararat's namespace with the key `accountKey`, `sas`, "
        "`clientSecret`, or `clientCertificate` (PEM, key included).",
    )
    access_tier: AccessTier | None = Field(
        default=None, description="Access tier for data; the account's default where unset."
    )
    ca_bundle: str | None = Field(
        default=None, description="PEM certificates to trust besides the system's."
    )

    @model_validator(mode="after")
    def _what_the_login_needs(self) -> Self:
        kind = self.authentication
        identity = kind in (Authentication.WORKLOAD_IDENTITY, Authentication.MANAGED_IDENTITY)
        if not identity and not self.credentials_secret:
            raise ValueError(f"credentialsSecret is needed for {kind}")
        if kind is Authentication.SERVICE_PRINCIPAL and not (self.client_id and self.tenant_id):
            raise ValueError("clientID and tenantID are needed for ServicePrincipal")
        if kind is Authentication.MANAGED_IDENTITY and self.tenant_id:
            raise ValueError("tenantID has no meaning for ManagedIdentity: leave it out")
        return self


class FilesystemLocation(Model):
    """A directory that every node sees under the same path."""

    path: str = Field(pattern=r"^/", description="Absolute path on the nodes.")


class BackupLocationSpec(Model):
    azure: AzureLocation | None = Field(default=None, description="Azure Blob Storage.")
    filesystem: FilesystemLocation | None = Field(
        default=None, description="A directory that every node sees, or the only node."
    )
    access_mode: AccessMode = Field(
        default=AccessMode.READ_WRITE,
        description="ReadOnly: backups are seen and restored, nothing is written.",
    )
    default: bool = Field(default=False, description="Used where a Backup names no location.")
    sync_period_seconds: int = Field(
        default=60, ge=5, description="Seconds between two looks at what the location holds."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.azure is None) == (self.filesystem is None):
            raise ValueError("exactly one of azure and filesystem must be set")
        return self


class LocationPhase(StrEnum):
    AVAILABLE = "Available"
    UNAVAILABLE = "Unavailable"


class BackupLocationStatus(Status):
    phase: LocationPhase | None = Field(default=None, description="Whether it can be used.")
    location_id: str | None = Field(default=None, description="Identity of what is stored there.")
    owner: str | None = Field(
        default=None, description="UID of the one cluster that may write (its kube-system)."
    )
    last_sync_time: datetime | None = Field(default=None, description="Last look at its backups.")
    backup_count: int | None = Field(default=None, description="Backups seen at the last look.")


class BackupLocation(Resource[BackupLocationSpec, BackupLocationStatus]):
    """A Blob container and prefix, or a directory, that holds backups."""

    KIND: ClassVar[str] = "BackupLocation"
    PLURAL: ClassVar[str] = "backuplocations"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("bl",)
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int], ...]] = (
        ("Phase", "string", ".status.phase", 0),
        ("Access", "string", ".spec.accessMode", 0),
        ("Default", "boolean", ".spec.default", 0),
        ("Backups", "integer", ".status.backupCount", 0),
        ("Message", "string", ".status.message", 0),
    )

    @property
    def read_only(self) -> bool:
        return self.spec.access_mode is AccessMode.READ_ONLY

    @property
    def available(self) -> bool:
        return self.status.phase is LocationPhase.AVAILABLE
