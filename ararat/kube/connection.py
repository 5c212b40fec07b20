"""How a process finds its API server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ararat.errors import InvalidSpec

from .client import KubeClient
from .errors import shorten
from .library import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
    ConfigException,
    Configuration,
    InClusterConfigLoader,
    kubeconfig_loader,
)
from .transport import Transport


@asynccontextmanager
async def connect(
    kubeconfig: str | os.PathLike[str] | None = None,
    context: str | None = None,
    *,
    timeout: float = 30,
    parallel: int = 64,
) -> AsyncIterator[KubeClient]:
    """A client for the cluster we run in, or the one a kubeconfig names.

    In this order: the arguments, ``KUBECONFIG``, the pod's service account, ``~/.kube/config``.
    ``timeout`` is the deadline of every call but watch and exec, ``parallel`` how many may be in
    flight. Raises InvalidSpec where the configuration cannot be used; does not call the server.
    """
    configuration = Configuration()
    path = kubeconfig or os.environ.get("KUBECONFIG")
    reauthenticate: Callable[[], Awaitable[object]] | None = None
    try:
        if path is None and context is None and in_cluster():
            loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
                token_filename=SERVICE_TOKEN_FILENAME, cert_filename=SERVICE_CERT_FILENAME
            )
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
            # A proxy for the world outside is none for the cluster's own API server, and NO_PROXY
            # cannot say so: aiohttp does not understand address ranges there.
            configuration.client_session_kwargs = {"trust_env": False}
        else:
            path = path or Path("~/.kube/config").expanduser()
            reauthenticate = await _load_kubeconfig(str(path), context, configuration)
        transport = Transport(
            configuration, timeout=timeout, parallel=parallel, reauthenticate=reauthenticate
        )
    except (ConfigException, OSError, ValueError, TypeError) as error:
        where = path or "the pod's service account"
        raise InvalidSpec(
            f"cannot connect to a cluster with {where}: {shorten(str(error))}",
            reason="KubeconfigInvalid",
        ) from error
    try:
        yield KubeClient(transport)
    finally:
        await transport.close()


def in_cluster() -> bool:
    """Whether this is a pod with a service account's token."""
    return SERVICE_HOST_ENV_NAME in os.environ and Path(SERVICE_TOKEN_FILENAME).is_file()


async def _load_kubeconfig(
    path: str, context: str | None, configuration: Configuration
) -> Callable[[], Awaitable[object]]:
    """Returns what loads it again: tokens of cloud logins last an hour, ``logs -f`` longer."""
    import yaml

    try:
        loader = await kubeconfig_loader()(
            config_file=path,
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error

    async def again() -> None:
        await loader.load_and_set(configuration)

    return again
