"""``ararat version``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ararat import __version__
from ararat.cli import output, render, session
from ararat.cli.options import Output, OutputOption
from ararat.cli.settings import Settings, with_settings

if TYPE_CHECKING:
    from ararat.kube import KubeApi

_LABEL = "app.kubernetes.io/version"


@with_settings
def version(
    settings: Settings,
    client: Annotated[
        bool, typer.Option("--client", help="This program's version only; asks no cluster.")
    ] = False,
    form: OutputOption = Output.TABLE,
) -> None:
    """Print the versions of this program, of the controller, and of the cluster.

    \b
      ararat version
      ararat version --client
    """
    versions = {"client": __version__}
    if client:
        _print(versions, form)
        return

    async def body(api: KubeApi) -> dict[str, str]:
        from ararat.cli import remote

        server = await api.server_version()
        deployments = await remote.controllers(api, settings)
        return {"controller": controller_version(deployments), "kubernetes": server}

    try:
        versions.update(session.run(settings, body))
    finally:
        # What is known is said, also where no cluster answers.
        _print(versions, form)


def controller_version(deployments: Sequence[dict[str, Any]]) -> str:
    """From the chart's label, else from the image's tag; ``not installed`` where there is none."""
    if not deployments:
        return "not installed"
    deployment = deployments[0]
    label = deployment["metadata"].get("labels", {}).get(_LABEL)
    if label:
        return str(label)
    image = str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])
    name = image.rpartition("/")[2]
    return name.partition("@")[2] or name.partition(":")[2] or "unknown"


def _print(versions: dict[str, str], form: Output) -> None:
    if form is Output.JSON:
        output.text(render.as_json(versions))
    elif form is Output.YAML:
        output.text(render.as_yaml(versions))
    else:
        output.text(render.fields(list(versions.items())))
