"""A real Prometheus on this machine, for one test: what it scrapes, its rules, its answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.process import Service, free_port
from tests.cluster.toolchain import prometheus as toolchain

_SECONDS = 60.0


class Prometheus:
    """Scrapes addresses (``127.0.0.1:port``) once a second."""

    def __init__(
        self, directory: Path, targets: Sequence[str], *, groups: Sequence[dict[str, Any]] = ()
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        rules, config = directory / "rules.yaml", directory / "prometheus.yaml"
        rules.write_text(yaml.safe_dump({"groups": list(groups)}))
        scrape = {"job_name": "ararat", "static_configs": [{"targets": list(targets)}]}
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(rules)],
                    "scrape_configs": [scrape],
                }
            )
        )
        self.port = free_port()
        self._service = Service(
            "prometheus",
            directory=directory,
            command=[
                str(toolchain.ensure().prometheus),
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            leashed=True,
        )

    def __enter__(self) -> Prometheus:
        self._service.start()
        self._service.wait_until(self._ready, timeout=_SECONDS, what="answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._service.kill()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now. Raises HTTPError where it is not understood."""
        answer = self.get("query", query=expression)
        found: list[dict[str, Any]] = answer["result"]
        return found

    def get(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return json.loads(answer.read())["data"]

    def _ready(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/-/ready"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False
